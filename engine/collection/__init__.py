"""Collections: an indexed corpus on disk, built, published and opened."""

from .building import build
from .calibration import forget as forget_fusion
from .calibration import write as write_fusion
from .collection import Collection, Place
from .corpus import Corpus, open_corpus, read_corpus
from .document import Document, Fields
from .encoding import Encode
from .manifest import IndexSettings, Manifest, ModelRecord, Models
from .publish import Pointer, read_pointer
from .report import BuildReport, Progress

__all__ = [
    "BuildReport",
    "Collection",
    "Corpus",
    "Document",
    "Encode",
    "Fields",
    "IndexSettings",
    "Manifest",
    "ModelRecord",
    "Models",
    "Place",
    "Pointer",
    "Progress",
    "build",
    "forget_fusion",
    "open_corpus",
    "read_corpus",
    "read_pointer",
    "write_fusion",
]
