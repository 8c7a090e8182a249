"""PyTerrier: a retriever and a reranker, transformers of data frames. Needs python-terrier, and starts no Java.

What comes out has the columns qid, query, docno, score and rank (from 0), which `pt.Experiment` evaluates. ir-measures
wants other names: `run.rename(columns={"qid": "query_id", "docno": "doc_id"})`.
"""

from __future__ import annotations

from typing import Any

from ..result import SearchResult
from .backend import Source, chosen, connect, wished
from .hits import metadata_of
from .missing import missing

try:
    import pandas as pd
    import pyterrier as pt
except ModuleNotFoundError as error:
    raise missing("the adapter for PyTerrier", "python-terrier", error) from error

# The passage and the parts of its score; `title` and `text` are what rerankers of PyTerrier read.
_COLUMNS = (
    "passage", "title", "text", "relevance", "recall_score", "recall_rank", "rerank_score", "lexical_score",
    "degraded_code",
)  # fmt: skip


class PyTerrierRetriever(pt.Transformer):
    """Two-stage search: from qid and query to the documents found, one row a document."""

    def __init__(
        self, backend: Source, *, api_key: str | None = None, collection: str | None = None, **options: Any
    ) -> None:
        """See `connect` for the first three. `options` are those of `SearchOptions`; where it is not given,
        `per_document` is 1, since measures count a document once, and no budget applies, so that runs repeat.

        Raises InputError.
        """
        self.backend = connect(backend, api_key=api_key, collection=collection)
        self.settings = chosen(None, {"per_document": 1, "budget_ms": None, **options})

    def __repr__(self) -> str:
        return f"PyTerrierRetriever({self.backend!r}, {self.settings!r})"

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """Of a frame with qid and query, whatever else it has of queries, the best documents of each query."""
        pt.validate.columns(inp, includes=["qid", "query"], context=self)
        known = set(pt.model.query_columns(inp))
        columns = [column for column in inp.columns if column in known]
        queries = inp[columns].drop_duplicates("qid").to_dict("records")
        results = self.backend.search_many([row["query"] for row in queries], self.settings)
        rows = [{**query, **row} for query, result in zip(queries, results, strict=True) for row in _rows(result)]
        return pd.DataFrame(rows, columns=[*columns, "docno", "score", "rank", *_COLUMNS])


def _rows(result: SearchResult) -> list[dict[str, Any]]:
    return [
        {
            **{name: value for name, value in metadata_of(result, hit).items() if name in _COLUMNS},
            "docno": hit.document,
            "passage": hit.id,
            "text": hit.text,
            "score": hit.score,
            "rank": place,
        }
        for place, hit in enumerate(result.hits)
    ]


class PyTerrierReranker(pt.Transformer):
    """The cross-encoder: the documents of each query in its order. The score is its logit."""

    def __init__(
        self,
        backend: Source,
        *,
        api_key: str | None = None,
        collection: str | None = None,
        text: str = "text",
        **wish: str | None,
    ) -> None:
        """See `connect` for the first three. `text` names the column that is read; `wish` is the `prompt_name`,
        `prompt` or `instruction` of the queries. Raises InputError."""
        self.backend = connect(backend, api_key=api_key, collection=collection)
        self.text = text
        self.wish = wished(**wish)

    def __repr__(self) -> str:
        return f"PyTerrierReranker({self.backend!r}, {self.text!r}, {self.wish!r})"

    def transform(self, inp: pd.DataFrame) -> pd.DataFrame:
        """A frame with qid, query, docno and the text, with new scores and ranks; its other columns stay."""
        pt.validate.columns(inp, includes=["qid", "query", "docno", self.text], context=self)
        if inp.empty:
            return inp.assign(score=pd.Series(dtype="float64"), rank=pd.Series(dtype="int64"))
        scored = [self._scored(group) for _, group in inp.groupby("qid", sort=False)]
        return pd.concat(scored, ignore_index=True)

    def _scored(self, group: pd.DataFrame) -> pd.DataFrame:
        ranked = self.backend.rerank(group["query"].iloc[0], group[self.text].tolist(), self.wish)
        ordered = group.iloc[[passage.index for passage in ranked]]
        return ordered.assign(score=[passage.score for passage in ranked], rank=range(len(ranked)))
