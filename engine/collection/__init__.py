"""Collections: an indexed corpus on disk, built, published and opened."""

from .building import build
from .collection import Collection, Place
from .corpus import Corpus, open_corpus, read_corpus
from .document import Document, Fields, FieldType
from .encoding import Encode
from .fitted_weights import FittedWeights
from .fitted_weights import forget as forget_fusion
from .fitted_weights import write as write_fusion
from .manifest import CollectionManifest, CollectionModels, IndexSettings, ModelRecord
from .report import BuildReport, Progress
from .sources import Files
from .updating import Updated
from .versions import Pointer, read_pointer

__all__ = [
    "BuildReport",
    "Collection",
    "CollectionManifest",
    "CollectionModels",
    "Corpus",
    "Document",
    "Encode",
    "FieldType",
    "Fields",
    "Files",
    "FittedWeights",
    "IndexSettings",
    "ModelRecord",
    "Place",
    "Pointer",
    "Progress",
    "Updated",
    "build",
    "forget_fusion",
    "open_corpus",
    "read_corpus",
    "read_pointer",
    "write_fusion",
]
