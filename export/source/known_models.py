"""Models by name that an export reads: what they are for, how large they are, and which to take when in doubt.

Facts of the models' cards and configurations. The Hub's models were not downloaded here: their families and layouts
are proven with random weights. Only the bundled ones are proven with their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...engine.models.artifact import Kind
from ..bundled import BUNDLED

Speed = Literal["fast", "medium", "slow"]
Languages = Literal["English", "many"]
# Millions of parameters that are computed with: six or twelve thin layers; twelve to twenty-two wide ones; more.
_FAST, _MEDIUM = 25, 125


@dataclass(frozen=True, slots=True)
class KnownModel:
    """One model.

    name:       a Hugging Face id, or the name of a bundled model
    family:     as `config.json` calls it
    parameters: millions, the table of words included
    computed:   millions of them outside that table: what a model's speed depends on, about
    max_length: tokens
    pick:       the one of its kind and languages to take when in doubt
    """

    name: str
    kind: Kind
    family: str
    parameters: int
    computed: int
    max_length: int
    languages: Languages
    note: str = ""
    pick: bool = False

    @property
    def bundled(self) -> bool:
        """It needs no download."""
        return self.name in BUNDLED

    @property
    def speed(self) -> Speed:
        """On a CPU, one class for all lengths."""
        return "fast" if self.computed <= _FAST else "medium" if self.computed <= _MEDIUM else "slow"


_BI: Kind = "bi-encoder"
_CROSS: Kind = "cross-encoder"
KNOWN: tuple[KnownModel, ...] = (
    KnownModel("minilm-l6", _BI, "bert", 23, 11, 256, "English", "bundled", pick=True),
    KnownModel("sentence-transformers/all-MiniLM-L6-v2", _BI, "bert", 23, 11, 256, "English", "minilm-l6 is this one"),
    KnownModel("BAAI/bge-small-en-v1.5", _BI, "bert", 33, 21, 512, "English", "prompt of its card"),
    KnownModel("BAAI/bge-base-en-v1.5", _BI, "bert", 109, 86, 512, "English", "prompt of its card"),
    KnownModel("BAAI/bge-large-en-v1.5", _BI, "bert", 335, 303, 512, "English", "prompt of its card"),
    KnownModel("intfloat/e5-base-v2", _BI, "bert", 109, 86, 512, "English", "prompts of its card"),
    KnownModel("mixedbread-ai/mxbai-embed-large-v1", _BI, "bert", 335, 303, 512, "English", "query prompt"),
    KnownModel("Snowflake/snowflake-arctic-embed-s", _BI, "bert", 33, 21, 512, "English", "query prompt"),
    KnownModel("sentence-transformers/all-mpnet-base-v2", _BI, "mpnet", 109, 86, 384, "English"),
    KnownModel(
        "sentence-transformers/multi-qa-mpnet-base-dot-v1", _BI, "mpnet", 109, 86, 512, "English", "dot product"
    ),
    KnownModel("Alibaba-NLP/gte-modernbert-base", _BI, "modernbert", 149, 111, 8192, "English", "long passages"),
    KnownModel("nomic-ai/modernbert-embed-base", _BI, "modernbert", 149, 111, 8192, "English", "two prompts"),
    KnownModel("intfloat/multilingual-e5-small", _BI, "bert", 118, 21, 512, "many", "prompts of its card", pick=True),
    KnownModel("intfloat/multilingual-e5-base", _BI, "xlm-roberta", 278, 86, 512, "many", "prompts of its card"),
    KnownModel("intfloat/multilingual-e5-large", _BI, "xlm-roberta", 560, 303, 512, "many", "prompts of its card"),
    KnownModel("sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2", _BI, "bert", 118, 21, 128, "many"),
    KnownModel("BAAI/bge-m3", _BI, "xlm-roberta", 568, 303, 8192, "many", "its dense vectors"),
    KnownModel("google/embeddinggemma-300m", _BI, "gemma3_text", 308, 106, 2048, "many", "prompts; gated on the Hub"),
    KnownModel("Qwen/Qwen3-Embedding-0.6B", _BI, "qwen3", 596, 440, 32768, "many", "instruction; give --max-length"),
    KnownModel("minilm-l6-reranker", _CROSS, "bert", 23, 11, 512, "English", "bundled"),
    KnownModel("cross-encoder/ettin-reranker-17m-v1", _CROSS, "modernbert", 17, 4, 7999, "English"),
    KnownModel("cross-encoder/ettin-reranker-32m-v1", _CROSS, "modernbert", 32, 12, 7999, "English", pick=True),
    KnownModel("cross-encoder/ettin-reranker-150m-v1", _CROSS, "modernbert", 150, 111, 7999, "English"),
    KnownModel("cross-encoder/ms-marco-MiniLM-L6-v2", _CROSS, "bert", 23, 11, 512, "English"),
    KnownModel("cross-encoder/ms-marco-MiniLM-L12-v2", _CROSS, "bert", 33, 21, 512, "English"),
    KnownModel("Alibaba-NLP/gte-reranker-modernbert-base", _CROSS, "modernbert", 150, 111, 8192, "English"),
    KnownModel("mixedbread-ai/mxbai-rerank-base-v1", _CROSS, "deberta-v2", 184, 86, 512, "English"),
    KnownModel("cross-encoder/mmarco-mMiniLMv2-L12-H384-v1", _CROSS, "xlm-roberta", 118, 21, 512, "many", pick=True),
    KnownModel("BAAI/bge-reranker-base", _CROSS, "xlm-roberta", 278, 86, 512, "many", "Chinese and English"),
    KnownModel("BAAI/bge-reranker-v2-m3", _CROSS, "xlm-roberta", 568, 303, 8192, "many"),
)
