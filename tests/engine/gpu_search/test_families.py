"""A whole search on the device with the families of the packed runtime beside BERT, on the CPU in FP32."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tandem.bench.random_models.shapes import TINY_MODERNBERT, TINY_ROBERTA, ModelShape  # noqa: E402
from tandem.bench.random_models.workload import TEMPLATE, RandomWorkload  # noqa: E402
from tandem.engine.models.runtime.packed import PackedRuntime  # noqa: E402
from tandem.engine.text.tokens import join_pairs, pack  # noqa: E402


@pytest.mark.parametrize("shape", [TINY_ROBERTA, TINY_MODERNBERT], ids=lambda shape: shape.name)
def test_every_encoder_is_searched_with_as_on_the_host(shape: ModelShape):
    """Pairs are joined by the host and vectors compared by numpy; queries are longer than a local layer sees."""
    workload = RandomWorkload(shape, passages=60, tokens=120, query_tokens=80)
    pipeline, queries = workload.pipeline(), workload.queries(2)
    parts, stored = pipeline.parts, pipeline.parts.store
    encoder, reranker = PackedRuntime(parts.encoder), PackedRuntime(parts.reranker)
    vectors = encoder.run(queries.encoder)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    bounds, ids = stored.tokens.offsets.numpy(), stored.tokens.ids.numpy().astype(np.int32)
    for place, found in enumerate(pipeline.search(queries, 6, 6)):
        assert found is not None
        best = np.sort(vectors[place] @ stored.vectors.numpy().T)[-6:]
        np.testing.assert_allclose(np.sort(found.cosines), best, atol=1e-5)
        texts = pack([ids[bounds[row] : bounds[row + 1]] for row in found.rows])
        joined = join_pairs(queries.reranker[place], texts, TEMPLATE, 512, segments=True)
        np.testing.assert_allclose(found.logits, reranker.run(joined), atol=1e-4)
