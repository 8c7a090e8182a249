"""A base and a LoRA adapter become one cross-encoder, with what the adapter's record says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import BertForSequenceClassification

from tandem.engine.errors import ExportError
from tandem.export import export_model
from tandem.export.parity.samples import docstrings
from tandem.export.parity.scoring import onnx_forward
from tandem.export.quiet import quiet
from tandem.export.source import torch_model
from tandem.export.source.resolve import Origin

from ..tiny import hf_tokenizer, tiny_model


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Folders of a base and of a random adapter on it, and the model that they make."""
    folder = tmp_path_factory.mktemp("parts")
    base = tiny_model(folder / "base", "bert", "bi-encoder")
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = BertForSequenceClassification.from_pretrained(base, num_labels=1)
        settings = LoraConfig(
            TaskType.SEQ_CLS,
            r=4,
            target_modules=["query", "value"],
            modules_to_save=["pooler", "classifier"],
            init_lora_weights=False,  # a fresh LoRA changes nothing; this one does
        )
        adapted = get_peft_model(model, settings)
        adapted.save_pretrained(folder / "adapter")
    return base, folder / "adapter", adapted.eval()


def test_the_adapter_is_merged_into_weights_and_graph(parts, tmp_path):
    base, adapter, adapted = parts
    artifact = export_model(
        str(base), "cross-encoder", tmp_path / "out", adapter=adapter, precisions=("fp32",), texts=docstrings()[:30]
    )
    inputs = hf_tokenizer("bert")(["a query"] * 2, ["some passage", "text"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = adapted(**inputs).logits.numpy()
    batch = hf_batch(inputs)
    assert np.allclose(onnx_forward(artifact.graph("fp32"))(batch), expected, atol=1e-5)
    assert np.ptp(expected) > 0
    source = artifact.manifest.source
    assert source.adapter is not None
    assert source.adapter.startswith("adapter ")
    assert artifact.manifest.activation == "identity"


def hf_batch(inputs):
    from tandem.engine.text.tokens import PaddedBatch

    return PaddedBatch(*(inputs[name].numpy() for name in ("input_ids", "attention_mask", "token_type_ids")))


def test_the_merged_model_is_traced_with_plain_attention(parts):
    """Another attention writes its mask out for every query token, and the last layer would not be narrowed."""
    base, adapter, _ = parts
    model = torch_model.load(Origin("tiny", base, adapter=adapter), "cross-encoder")
    assert model.config._attn_implementation == "eager"


def test_an_adapter_makes_no_bi_encoder(parts, tmp_path):
    base, adapter, _ = parts
    with pytest.raises(ExportError, match="--as cross-encoder"):
        export_model(str(base), "bi-encoder", tmp_path / "out", adapter=adapter)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_adapter_is_named(parts, tmp_path):
    with pytest.raises(ExportError, match="absent"):
        export_model(str(parts[0]), "cross-encoder", tmp_path / "out", adapter=tmp_path / "absent")
