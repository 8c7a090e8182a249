"""Questions nobody had to write: they widen the domains of a training set.

* `python_docs`: a docstring's first sentence asks, the rest of the docstring or the code below it answers.
* `inverse_cloze`: a sentence taken out of its passage asks for that passage (Lee et al. 2019, "Latent Retrieval for
  Weakly Supervised Open Domain Question Answering"); such a query reads like a claim rather than a question.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .data import Dataset, Passage, Question

# Packages that `tandem[export]` and its needs install, so that any machine that can train has them.
PACKAGES = (
    "numpy",
    "torch",
    "scipy",
    "sklearn",
    "transformers",
    "pydantic",
    "sympy",
    "networkx",
    "pandas",
    "rich",
    "typer",
)
FILES_A_PACKAGE = 150
CHARACTERS = 1500
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"(])")
_Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def python_docs(passages: int, rng: np.random.Generator, packages: Sequence[str] = PACKAGES) -> Dataset:
    """Documentation and code of the standard library and `packages`: about `passages` passages, one question each.

    Source files are parsed, never imported. A module is one document. One passage in four is code, the others prose.
    """
    found: list[tuple[Passage, str]] = []
    for path, module in _modules(packages, rng):
        found.extend(_documented(path, module, rng))
        if len(found) >= 3 * passages:
            break
    kept = sorted(rng.permutation(len(found))[:passages])
    seen: set[str] = set()
    dataset = Dataset("python", [], [])
    for index in kept:
        passage, question = found[index]
        if question not in seen:
            seen.add(question)
            dataset.questions.append(Question(question, (len(dataset.passages),)))
            dataset.passages.append(passage)
    return dataset


def inverse_cloze(datasets: Sequence[Dataset], rng: np.random.Generator) -> Dataset:
    """A sentence of each passage of `datasets` as the question, and the passage without it as the answer.

    One time in ten the sentence stays, so that a literal match is still worth something (as in the paper). Passages
    of fewer than three sentences, and sentences under 6 or over 40 words, are left out.
    """
    result = Dataset("cloze", [], [])
    for dataset in datasets:
        for passage in dataset.passages:
            sentences = SENTENCE.split(passage.text[:CHARACTERS])
            fit = [index for index, sentence in enumerate(sentences) if 6 <= len(sentence.split()) <= 40]
            if len(sentences) < 3 or not fit:
                continue
            chosen = int(rng.choice(fit))
            rest = sentences if rng.random() < 0.1 else sentences[:chosen] + sentences[chosen + 1 :]
            result.questions.append(Question(sentences[chosen].strip(), (len(result.passages),)))
            result.passages.append(Passage(passage.title, " ".join(rest)))
    return result


def _modules(packages: Sequence[str], rng: np.random.Generator) -> Iterator[tuple[Path, str]]:
    """Source files of the standard library and the packages in random order, an even number of each package."""
    roots = [("", Path(sysconfig.get_paths()["stdlib"]))]
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            roots.append((package, Path(spec.submodule_search_locations[0])))
    files: list[tuple[Path, str]] = []
    for name, root in roots:
        own = sorted(path for path in root.rglob("*.py") if not _skipped(path.relative_to(root)))
        for index in rng.permutation(len(own))[:FILES_A_PACKAGE]:
            module = ".".join(own[index].relative_to(root).with_suffix("").parts)
            files.append((own[index], f"{name}.{module}" if name else module))
    for index in rng.permutation(len(files)):
        yield files[index]


def _skipped(path: Path) -> bool:
    folders = {"test", "tests", "testing", "site-packages", "dist-packages", "idlelib", "lib2to3", "__pycache__"}
    return not folders.isdisjoint(path.parts) or path.name.startswith("test_")


def _documented(path: Path, module: str, rng: np.random.Generator) -> Iterator[tuple[Passage, str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another package's odd escapes are not ours to report
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return  # other people's files: templates and old encodings are simply no source of questions
    for node in ast.walk(tree):
        if isinstance(node, _Documented):
            docstring = ast.get_docstring(node)
            if docstring:
                yield from _pair(node, docstring, module, rng)


def _pair(node: _Documented, docstring: str, module: str, rng: np.random.Generator) -> Iterator[tuple[Passage, str]]:
    sentence, _, body = docstring.partition("\n\n")
    sentence = SENTENCE.split(" ".join(sentence.split()))[0].rstrip(".")
    if rng.random() < 0.25:
        rest = [child for child in node.body if not _is_docstring(child)]
        body = ast.unparse(rest[0] if len(rest) == 1 else ast.Module(rest, [])) if rest else ""
        body = f"{node.name}({ast.unparse(node.args)})\n{body}" if not isinstance(node, ast.ClassDef) else body
    if len(sentence.split()) >= 4 and len(body.split()) >= 15 and "deprecated" not in sentence.lower():
        yield Passage(module, body[:CHARACTERS].strip()), sentence


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
