"""A base and a LoRA adapter become one cross-encoder, with what the adapter's record says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import BertForSequenceClassification

from tandem.engine.errors import ExportError
from tandem.engine.text.tokens import TokenBatch, cumulative
from tandem.export import export_model
from tandem.export.parity.samples import docstrings
from tandem.export.parity.scoring import onnx_forward
from tandem.export.quiet import quiet

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
    actual = onnx_forward(artifact.graph("fp32"), 0)(sequences(inputs))
    assert np.allclose(actual, expected[:, 0], atol=1e-5)
    assert np.ptp(expected) > 0
    source = artifact.manifest.source
    assert source.adapter is not None
    assert source.adapter.startswith("adapter ")
    assert artifact.manifest.activation == "identity"


def sequences(inputs) -> TokenBatch:
    """Hugging Face's padded batch without its padding."""
    real = inputs["attention_mask"].bool()
    lengths = real.sum(dim=1).numpy()
    ids, segments = (inputs[name][real].numpy() for name in ("input_ids", "token_type_ids"))
    return TokenBatch(ids.astype(np.int32), cumulative(lengths), segments.astype(np.uint8))


def test_an_adapter_makes_no_bi_encoder(parts, tmp_path):
    base, adapter, _ = parts
    with pytest.raises(ExportError, match="--as cross-encoder"):
        export_model(str(base), "bi-encoder", tmp_path / "out", adapter=adapter)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_adapter_is_named(parts, tmp_path):
    with pytest.raises(ExportError, match="absent"):
        export_model(str(parts[0]), "cross-encoder", tmp_path / "out", adapter=tmp_path / "absent")
