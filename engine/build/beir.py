"""Questions and which documents answer them, in the BEIR layout: `queries.jsonl[.gz]`, `qrels/<split>.tsv[.gz]`."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ..errors import CorpusError

Qrels = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Judged:
    """queries: id → text; qrels: query id → document id → grade (above 0: it answers). Judged queries only."""

    queries: dict[str, str]
    qrels: Qrels


def read_judged(folder: Path, split: str | None = None) -> Judged:
    """The judged queries of a BEIR folder. `split` may be left out when the folder has one.

    Raises CorpusError, with file and line, for what is missing or cannot be read.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder} is not a folder; give one with queries.jsonl and qrels/<split>.tsv")
    qrels = read_qrels(_qrels_file(folder, split))
    texts = dict(_queries(_either(folder / "queries.jsonl")))
    missing = next((query for query in qrels if query not in texts), None)
    if missing is not None:
        raise CorpusError(f"{folder}: qrels judge query {missing!r}, which queries.jsonl does not have")
    return Judged({query: texts[query] for query in qrels}, qrels)


def read_qrels(path: Path) -> Qrels:
    """query id → document id → grade, of a tab-separated file with the header `query-id corpus-id score`."""
    qrels: Qrels = {}
    with _readable(path), _open(path) as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), start=1):
            if not row or (number == 1 and row[-1:] == ["score"]):
                continue
            try:
                query, document, grade = row
                qrels.setdefault(query, {})[document] = int(grade)
            except ValueError as error:
                message = (
                    f"{path}:{number}: a judgement is `query-id<TAB>corpus-id<TAB>whole number`, this is {row!r:.80}"
                )
                raise CorpusError(message) from error
    if not qrels:
        raise CorpusError(f"{path} holds no judgement")
    return qrels


def _queries(path: Path) -> Iterator[tuple[str, str]]:
    with _readable(path), _open(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                yield str(row["_id"]), str(row["text"])
            except (ValueError, KeyError, TypeError) as error:
                raise CorpusError(f'{path}:{number}: a query is {{"_id": …, "text": …}} ({error!r})') from error


def _qrels_file(folder: Path, split: str | None) -> Path:
    if split is not None:
        return _either(folder / "qrels" / f"{split}.tsv")
    splits = sorted({path.name.split(".tsv")[0] for path in (folder / "qrels").glob("*.tsv*")})
    if len(splits) != 1:
        raise CorpusError(f"{folder / 'qrels'} has {', '.join(splits) or 'no .tsv file'}: name one split")
    return _either(folder / "qrels" / f"{splits[0]}.tsv")


def _either(path: Path) -> Path:
    """`path`, or `path` with .gz when only that exists."""
    packed = path.with_name(path.name + ".gz")
    if not path.exists() and not packed.exists():
        raise CorpusError(f"{path} (or .gz) is missing")
    return path if path.exists() else packed


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong while reading `path` into a CorpusError."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path} is not valid UTF-8 ({error.reason}); save it as UTF-8") from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise CorpusError(f"{path} cannot be read to its end ({error}); is it complete?") from error


def _open(path: Path) -> TextIO:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
