"""Random models are those of transformers: names, sizes and what they answer, also by the packed runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tandem.bench.random_models.shapes import (  # noqa: E402
    TINY,
    TINY_MODERNBERT,
    TINY_QWEN3,
    TINY_ROBERTA,
    ModelShape,
)
from tandem.bench.random_models.weights import weights  # noqa: E402
from tandem.engine.models.artifact import Kind  # noqa: E402
from tandem.engine.models.runtime.families.model import PackedModel  # noqa: E402
from tandem.engine.models.runtime.packed import PackedRuntime  # noqa: E402
from tandem.engine.text.tokens import TokenBatch, cumulative  # noqa: E402
from tandem.export.quiet import quiet  # noqa: E402


@pytest.mark.parametrize("kind", ["bi-encoder", "cross-encoder"])
@pytest.mark.parametrize("shape", [TINY, TINY_ROBERTA, TINY_MODERNBERT, TINY_QWEN3], ids=lambda shape: shape.name)
def test_transformers_reads_every_tensor_and_answers_alike(shape: ModelShape, kind: Kind) -> None:
    cross = kind == "cross-encoder"
    tensors, config = weights(shape, kind, torch.Generator().manual_seed(0)), shape.architecture()
    made = transformers.AutoConfig.for_model(**config, num_labels=1)
    auto = transformers.AutoModelForSequenceClassification if cross else transformers.AutoModel
    with quiet(), torch.random.fork_rng(devices=[]):
        model = auto.from_config(made).eval()
    model.load_state_dict(tensors)  # strict: none is missing, none is unknown
    ids = np.random.default_rng(0).integers(5, shape.vocabulary, 150).astype(np.int32)
    with torch.no_grad():
        answer = model(input_ids=torch.from_numpy(ids.astype(np.int64))[None])
    expected: Any = answer.logits[:, 0] if cross else answer.last_hidden_state.mean(1)
    runtime = PackedRuntime(PackedModel(config, tensors, "logit" if cross else "mean", torch.float32, "cpu"))
    found = runtime.run(TokenBatch(ids, cumulative([len(ids)])))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
