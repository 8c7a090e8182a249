"""Each family, exported and held to Hugging Face's own model and tokenizer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from tandem.engine.models.artifact import Artifact
from tandem.engine.text.tokens import PaddedBatch
from tandem.export import export_model
from tandem.export.parity.samples import docstrings
from tandem.export.parity.scoring import onnx_forward

from ..tiny import FAMILIES, MAX_LENGTH, hf_tokenizer, tiny_model

KINDS = ("bi-encoder", "cross-encoder")
TEXTS = docstrings()[:40]


@pytest.fixture(scope="module", params=[(family, kind) for family in FAMILIES for kind in KINDS], ids="-".join)
def exported(request, tmp_path_factory):
    """Family, source folder and artifact in all three precisions."""
    family, kind = request.param
    folder = tmp_path_factory.mktemp("family")
    source = tiny_model(folder / "source", family, kind)
    return family, source, export_model(str(source), kind, folder / "artifact", texts=TEXTS)


def encoded(family, kind):
    """One padded batch by Hugging Face's tokenizer: texts of one token to longer than the model reads."""
    texts = ["a", "some words", TEXTS[3], " ".join(TEXTS[:8])]
    pair = [["what is it?"] * len(texts), texts] if kind == "cross-encoder" else [texts]
    return hf_tokenizer(family)(
        *pair, truncation=True, max_length=MAX_LENGTH, padding=True, return_tensors="pt", return_token_type_ids=True
    )


def test_the_graphs_compute_what_the_model_computes(exported):
    family, source, artifact = exported
    kind = artifact.manifest.kind
    inputs = encoded(family, kind)
    door = AutoModel if kind == "bi-encoder" else AutoModelForSequenceClassification
    model = door.from_pretrained(source).eval()
    segments = {"token_type_ids": inputs["token_type_ids"]} if artifact.manifest.segments else {}
    with torch.inference_mode():
        output = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], **segments)
    expected = (output.last_hidden_state if kind == "bi-encoder" else output.logits).numpy()
    batch = PaddedBatch(*(inputs[name].numpy() for name in ("input_ids", "attention_mask", "token_type_ids")))
    real = batch.mask.astype(bool) if kind == "bi-encoder" else slice(None)
    for precision, tolerance in (("fp32", 1e-5), ("fp16", 2e-2)):
        actual = onnx_forward(artifact.graph(precision))(batch)
        assert actual.dtype == np.float32
        assert np.isfinite(actual).all(), "a padded position that is not finite reaches others through attention"
        scale = np.abs(expected[real]).max()
        assert np.abs(actual[real] - expected[real]).max() <= tolerance * scale


def test_each_precision_was_proven(exported):
    _, _, artifact = exported
    assert list(artifact.manifest.variants) == ["fp32", "fp16", "int8"]
    for precision, variant in artifact.manifest.variants.items():
        assert variant.parity.samples >= 160
        assert variant.parity.kendall_tau > 0.85
        assert 0 < variant.parity.max_error < (1e-4 if precision == "fp32" else 1.0)


def test_layers_are_fused_where_onnx_runtime_can(exported):
    family, _, artifact = exported
    cpu, gpu = artifact.manifest.variants["int8"].fused, artifact.manifest.variants["fp16"].fused
    assert artifact.manifest.variants["fp32"].fused == cpu
    if family == "modernbert":
        assert set(cpu) == {"LayerNormalization"}
        return
    assert (cpu["LayerNormalization"], cpu["Gelu"]) == (5, 2)
    assert (gpu["Attention"], gpu["SkipLayerNormalization"], gpu["BiasGelu"]) == (2, 4, 2)
    for fused in (cpu, gpu):
        assert fused.get("FirstTokenOnly", 0) == (artifact.manifest.kind == "cross-encoder")


def test_the_manifest_says_how_the_family_is_used(exported):
    family, _, artifact = exported
    manifest = artifact.manifest
    assert manifest.family == family
    assert manifest.segments == (family == "bert")
    assert manifest.max_length == MAX_LENGTH
    assert manifest.pad_id == hf_tokenizer(family).pad_token_id
    assert manifest.dimension == (32 if manifest.kind == "bi-encoder" else None)
    assert set(manifest.tools) >= {"torch", "optimum", "onnxruntime"}


def test_the_weights_beside_the_graphs_are_the_sources(exported):
    from safetensors.numpy import load_file

    _, source, artifact = exported
    ours, theirs = load_file(artifact.path / "model.safetensors"), load_file(source / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert isinstance(Artifact.open(artifact.path), Artifact)
