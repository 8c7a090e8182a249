"""Which weights the final order of an engine has, and whose they are."""

from __future__ import annotations

import logging
from typing import Any

from ..collection import Collection
from ..config import EngineSettings
from ..models.cross_encoder import CrossEncoder
from ..models.encoder import BiEncoder
from ..scoring.fusion import Fusion
from ..scoring.scale import Scale

log = logging.getLogger(__name__)


def fusion_of(
    collection: Collection, encoder: BiEncoder, reranker: CrossEncoder | None, settings: EngineSettings
) -> Fusion:
    """The weights asked for, else those kept with the collection for these models, else the reranker's fitted ones."""
    if reranker is None:
        fusion = Fusion()
    elif (kept := collection.fitted) is None:
        fusion = reranker.artifact.manifest.fusion
    elif kept.fits(encoder.artifact.fingerprint, reranker.artifact.fingerprint):
        fusion = kept.fusion
    else:
        fusion = reranker.artifact.manifest.fusion
        log.warning(
            "the weights kept with %s were fitted with other models, so those of %s itself apply; `tandem calibrate %s "
            "BEIR --reranker %s` fits them anew",
            collection.path, reranker.artifact.manifest.name, collection.path, reranker.artifact.path,
        )  # fmt: skip
    asked = {"recall_weight": settings.recall_weight, "lexical_weight": settings.lexical_weight}
    given: dict[str, Any] = {name: weight for name, weight in asked.items() if weight is not None}
    # All else was fitted for other final scores than those of weights that somebody sets.
    told = {"fitted_on": "set when the engine was opened", "scale": Scale(), "enough": None} if given else {}
    return fusion.model_copy(update=given | told | {"recall_scale": collection.manifest.scale})
