"""Fixtures that every test folder may use.

PyTorch and the engine are imported by the fixtures that need them, so that a test without them starts at once, and
those of the kernels where the engine's libraries are missing.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tandem.engine.models.artifact import Kind, Precision

    from .tiny import Family

with contextlib.suppress(ImportError):  # a GPU machine without network may lack it, and its tests do not need it
    from hypothesis import settings

    # No limit on an example's time: a busy machine is not a failing test.
    settings.register_profile("tandem", deadline=None)
    settings.load_profile("tandem")


ALL: tuple[Precision, ...] = ("fp32", "fp16", "int8")


@pytest.fixture(scope="session")
def tiny_bi_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported bi-encoder: BERT, 2 layers, hidden 32, random weights, FP32 and INT8. Read-only by agreement."""
    return exported(tmp_path_factory.mktemp("tiny-bi-encoder"), "bi-encoder")


@pytest.fixture(scope="session")
def tiny_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported cross-encoder with `tiny_bi_encoder`'s tokenizer, FP32 and INT8. Read-only by agreement."""
    return exported(tmp_path_factory.mktemp("tiny-cross-encoder"), "cross-encoder")


@pytest.fixture(scope="session")
def sibling_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_cross_encoder` with other weights. Read-only by agreement."""
    return exported(tmp_path_factory.mktemp("sibling-cross-encoder"), "cross-encoder", seed=7)


@pytest.fixture(scope="session")
def other_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder with another tokenizer: XLM-RoBERTa, as small as the others. Read-only by agreement."""
    return exported(tmp_path_factory.mktemp("other-cross-encoder"), "cross-encoder", "xlm-roberta")


@pytest.fixture(scope="session")
def packable_bi_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_bi_encoder` with heads as wide as the attention kernel wants them: hidden 64, four heads of 16."""
    return exported(tmp_path_factory.mktemp("packable-bi-encoder"), "bi-encoder", precisions=ALL, hidden=64)


@pytest.fixture(scope="session")
def packable_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_cross_encoder`, likewise."""
    return exported(tmp_path_factory.mktemp("packable-cross-encoder"), "cross-encoder", precisions=ALL, hidden=64)


@pytest.fixture(scope="session")
def exiting_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder of 3 layers with an early exit after the first, FP32 and INT8; `adapter` beside it has one after
    the second too. Its tokenizer is `tiny_bi_encoder`'s. Read-only by agreement."""
    import torch

    from tandem.engine.scoring.fusion import Fusion
    from tandem.export import export_model
    from tandem.export.finetune.reranker import Reranker
    from tandem.export.finetune.write import write_record, write_weights
    from tandem.export.parity.samples import docstrings
    from tandem.export.source.adapter import shape_of
    from tandem.export.source.record import AdapterRecord

    from .tiny import tiny_model

    folder = tmp_path_factory.mktemp("exiting-cross-encoder")
    base = tiny_model(folder / "base", "bert", "bi-encoder", layers=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reranker = Reranker(str(base), None, False, rank=4, exits=(1, 2), length=None)
        for name, parameter in reranker.heads.named_parameters():  # fresh, each is the whole model's
            if parameter.requires_grad and "embeddings" not in name:
                torch.nn.init.normal_(parameter, std=0.3)
    shape = shape_of(reranker.inner.transformers_model, "tiny")
    files = write_weights(folder / "adapter", reranker)
    record = AdapterRecord(base=shape, files=files, exits=(1, 2), fusion=Fusion(recall_weight=0.01), max_length=128)
    write_record(folder / "adapter", record, "card")
    return export_model(
        str(base), "cross-encoder", folder / "artifact", adapter=folder / "adapter", precisions=("fp32", "int8"),
        texts=docstrings()[:60],
    ).path  # fmt: skip


def exported(
    folder: Path,
    kind: Kind,
    family: Family = "bert",
    *,
    precisions: tuple[Precision, ...] = ("fp32", "int8"),
    **sizes: Any,
) -> Path:
    """A tiny model of some `sizes` (see `tiny.tiny_model`), exported into `folder` in these `precisions`."""
    from tandem.export import export_model
    from tandem.export.parity.samples import docstrings

    from .tiny import tiny_model

    source = tiny_model(folder / "source", family, kind, **sizes)
    texts = docstrings()[:60]  # enough to prove so small a model, in a second
    return export_model(str(source), kind, folder / "artifact", precisions=precisions, texts=texts).path
