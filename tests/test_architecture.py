"""The shape of the tree: which folder may import which, and what importing must not do."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ("kernels", "engine", "export", "bench", "cli")  # each may import those before it
HEAVY = {
    "torch", "transformers", "sentence_transformers", "peft", "datasets", "accelerate", "onnx", "triton", "ir_measures",
    "matplotlib", "langchain_core", "llama_index", "haystack", "pyterrier", "pandas", "mteb", "httpx",
}  # fmt: skip
# Rooms of a layer, lowest first: a room imports from those before it only. A room is a sub-package, or one module.
ROOMS = {
    "engine": (
        "telemetry_off", "errors", "result", "platform", "text", "scheduling", "scoring", "recall", "models",
        "collection", "config",
        "gpu_search", "search", "model_requests", "single_model", "engine", "", "build", "server", "adapters",
    ),
    "export": (
        "adapters", "quiet", "bundled", "families", "graph", "source", "finetune", "tracing", "parity", "staging",
        "pipeline",
        "bundled_artifacts", "verify", "",
    ),
    "bench": (
        "environment", "document", "stats", "turns", "child", "plots", "report", "roofline", "plain_graphs", "rivals",
        "workloads",
        "setup", "latency", "throughput", "indexing", "agreement", "export_graphs", "quality", "recall", "writes",
        "serving", "kernels", "random_models", "families", "gpu", "",
    ),
}  # fmt: skip
MODULES = [
    path
    for layer in LAYERS
    for path in sorted((ROOT / layer).rglob("*.py"))
    if "micro" not in path.parts  # run by pytest, like the tests
]


def imported_layers(path: Path) -> set[str]:
    """Layers that a module imports relatively."""
    package = path.relative_to(ROOT).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            names = [base[0]] if base[0] else [alias.name for alias in node.names]
            found.update(name for name in names if name in LAYERS)
    return found


def absolute_imports(path: Path) -> set[str]:
    """First names of a module's absolute imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path):
    own = path.relative_to(ROOT).parts[0]
    allowed = set(LAYERS[: LAYERS.index(own) + 1])
    assert imported_layers(path) <= allowed


def targets(path: Path) -> set[Path]:
    """Modules of the tree that a module imports, also inside its functions."""
    package = path.relative_to(ROOT).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ROOT.joinpath(
                *package[: len(package) - node.level + 1], *filter(None, (node.module or "").split("."))
            )
            for alias in node.names:
                inner = base / alias.name
                found.update([module(inner)] if inner.with_suffix(".py").exists() or inner.is_dir() else [module(base)])
    return found


def module(path: Path) -> Path:
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def room(path: Path) -> tuple[str, str]:
    """The layer and room of a module; the room of a layer's `__init__` is empty."""
    layer, *rest = path.relative_to(ROOT).with_suffix("").parts
    return layer, "" if rest == ["__init__"] else rest[0]


@pytest.mark.parametrize(
    "path", [path for path in MODULES if room(path)[0] in ROOMS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_rooms_import_one_way(path: Path):
    layer, own = room(path)
    order = ROOMS[layer]
    above = {str(target.relative_to(ROOT)) for target in targets(path)
             if room(target)[0] == layer and order.index(room(target)[1]) > order.index(own)}  # fmt: skip
    assert not above


def test_no_module_imports_itself_through_others():
    # An op of kernels/ is one unit in two files: its kernel takes the contract's names, its contract starts the kernel.
    def unit(path: Path) -> str:
        return str(path.relative_to(ROOT)).replace("_triton.py", ".py")

    arrows: dict[str, set[str]] = {}
    for path in MODULES:
        arrows.setdefault(unit(path), set()).update(
            unit(target) for target in targets(path) if unit(target) != unit(path)
        )
    with_no_arrow: set[str] = set()
    while ends := {name for name, to in arrows.items() if name not in with_no_arrow and to <= with_no_arrow}:
        with_no_arrow |= ends
    assert not sorted(set(arrows) - with_no_arrow)


def test_a_class_name_has_one_home():
    homes: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: where for name, where in homes.items() if len(where) > 1}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_inside_the_tree_are_relative(path: Path):
    assert not absolute_imports(path) & {"tandem", *LAYERS}


def test_every_package_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    folders = {path.parent.relative_to(ROOT) for layer in LAYERS for path in (ROOT / layer).rglob("__init__.py")}
    assert listed == {"tandem." + ".".join(folder.parts) for folder in folders} | {"tandem.export.adapters"}


def test_the_engine_runs_without_torch_and_transformers():
    script = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ImportError(name + " must not be needed to run an engine")
sys.meta_path.insert(0, Refuse())
import tandem.engine, tandem.engine.build.indexing, tandem.engine.build.calibrate, tandem.kernels, tandem.cli
import tandem.engine.adapters
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_importing_neither_reads_the_environment_nor_the_network():
    script = """
import os, socket
class Watched(dict):
    def get(self, key, default=None):
        import traceback
        frames = [frame.filename for frame in traceback.extract_stack()[-3:-1]]
        assert not any("/engine/" in name or "/cli/" in name for name in frames), (key, frames)
        return super().get(key, default)
os.environ = Watched(os.environ)
def refuse(*args, **kwargs):
    raise AssertionError("network at import")
socket.socket.connect = refuse
import tandem.engine, tandem.cli
"""
    subprocess.run([sys.executable, "-c", script], check=True)
