"""Which of the ranked candidates are returned, and as what."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from ..collection import Collection
from ..config import SearchSettings
from ..recall.nearest import Recalled
from ..result import Hit
from ..scoring.fusion import Places, Ranking, Scores


def hits_of(
    collection: Collection,
    recalled: Recalled,
    lexical: Scores | None,
    ranking: Ranking,
    relevance: npt.NDArray[np.float64] | None,
    asked: SearchSettings,
) -> list[Hit]:
    """The hits of a search, best first.

    recalled, ranking: n candidates in recall's order
    lexical:   float32 [n], NaN where it is not known; None: of none
    relevance: float64 [n]; None: not known
    """
    places = ranking.places
    if relevance is not None and asked.min_relevance is not None:
        places = places[relevance[places] >= asked.min_relevance]
    if asked.per_document is not None:
        places = _few_of_each(places, collection.documents(recalled.rows[places]), asked.per_document)
    places = places[: asked.top_k]
    return [
        Hit(
            rank=number,
            id=passage.id,
            document=passage.document,
            text=passage.text,
            title=passage.title,
            metadata=passage.metadata,
            score=float(ranking.scores[place]),
            relevance=None if relevance is None else float(relevance[place]),
            recall_score=float(recalled.scores[place]),
            recall_rank=int(place) + 1,
            rerank_score=float(ranking.logits[place]) if np.isfinite(ranking.logits[place]) else None,
            lexical_score=None if lexical is None or np.isnan(lexical[place]) else float(lexical[place]),
        )
        for number, (place, passage) in enumerate(
            zip(places, collection.passages(recalled.rows[places]), strict=True), start=1
        )
    ]


def _few_of_each(places: Places, documents: list[str], most: int) -> Places:
    """The first `most` of the `places` of each document."""
    seen: Counter[str] = Counter()
    kept = []
    for place, document in zip(places, documents, strict=True):
        seen[document] += 1
        if seen[document] <= most:
            kept.append(place)
    return np.array(kept, dtype=np.int64)
