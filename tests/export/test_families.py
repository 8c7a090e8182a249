"""Each family, exported in every precision, opened by the engine and held to sentence-transformers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder as TheirCrossEncoder
from sentence_transformers import SentenceTransformer

from tandem.engine.models.artifact import Artifact
from tandem.engine.models.cross_encoder import CrossEncoder
from tandem.engine.models.encoder import BiEncoder
from tandem.engine.platform.device import Device
from tandem.export import export_model
from tandem.export.parity.samples import docstrings
from tandem.export.quiet import quiet

from ..tiny import FAMILIES, MAX_LENGTH, hf_tokenizer, tiny_model

KINDS = ("bi-encoder", "cross-encoder")
TEXTS = docstrings()[:40]
CPU = Device("cpu", "a test", 1)
QUERY, PASSAGES = "what is it?", ["a", "some words", TEXTS[3], " ".join(TEXTS[:8])]


@pytest.fixture(scope="module", params=[(family, kind) for family in FAMILIES for kind in KINDS], ids="-".join)
def exported(request, tmp_path_factory):
    """Family, source folder and artifact in all three precisions."""
    family, kind = request.param
    folder = tmp_path_factory.mktemp("family")
    source = tiny_model(folder / "source", family, kind)
    return family, source, export_model(str(source), kind, folder / "artifact", texts=TEXTS)


def test_the_engine_gives_what_sentence_transformers_gives(exported):
    _, source, artifact = exported
    with quiet():
        if artifact.manifest.kind == "cross-encoder":
            theirs = TheirCrossEncoder(str(source), device="cpu")
            expected = theirs.predict([(QUERY, text) for text in PASSAGES], activation_fn=torch.nn.Identity())
            actual = CrossEncoder(artifact, CPU, "fp32").score(QUERY, PASSAGES)
        else:
            expected = SentenceTransformer(str(source), device="cpu").encode_document(PASSAGES)
            ours = BiEncoder(artifact, CPU, "fp32")
            actual = ours.encode(ours.tokenizer.encode_many(PASSAGES))
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


def test_each_precision_was_proven(exported):
    _, _, artifact = exported
    assert list(artifact.manifest.variants) == ["fp32", "fp16", "int8"]
    for precision, variant in artifact.manifest.variants.items():
        assert variant.parity.samples >= 160
        assert variant.parity.kendall_tau > 0.85
        assert 0 < variant.parity.max_error < (1e-4 if precision == "fp32" else 1.0)


def test_the_graphs_have_the_fast_operators(exported):
    family, _, artifact = exported
    cpu, gpu = artifact.manifest.variants["int8"].fused, artifact.manifest.variants["fp16"].fused
    exact = artifact.manifest.variants["fp32"].fused
    assert {name: cpu[name] for name in exact} == exact
    assert cpu["TokenScales"] > 0
    if family == "modernbert":
        assert (cpu["MultiHeadAttention"], cpu["BlockAttention"], gpu["MultiHeadAttention"]) == (2, 1, 2)
        assert cpu["RotaryEmbedding"] == 4
        return
    assert (cpu["LayerNormalization"], cpu["Gelu"], cpu["MultiHeadAttention"]) == (5, 2, 2)
    assert (gpu["SkipLayerNormalization"], gpu["BiasGelu"], gpu["MultiHeadAttention"]) == (5, 2, 2)
    for fused in (cpu, gpu):
        assert fused.get("LastLayerOneToken", 0) == (artifact.manifest.kind == "cross-encoder")


def test_the_manifest_says_how_the_family_is_used(exported):
    family, _, artifact = exported
    manifest = artifact.manifest
    assert manifest.family == family
    assert manifest.segments == (family == "bert")
    assert manifest.max_length == MAX_LENGTH
    assert manifest.pad_id == hf_tokenizer(family).pad_token_id
    assert manifest.dimension == (32 if manifest.kind == "bi-encoder" else None)
    assert (manifest.size.layers, manifest.size.width, manifest.size.wide, manifest.size.heads) == (2, 32, 64, 4)
    assert set(manifest.tools) >= {"torch", "transformers", "sentence-transformers", "onnxruntime"}


def test_the_weights_beside_the_graphs_are_the_sources(exported):
    from safetensors.numpy import load_file

    _, source, artifact = exported
    ours, theirs = load_file(artifact.path / "model.safetensors"), load_file(source / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert isinstance(Artifact.open(artifact.path), Artifact)
