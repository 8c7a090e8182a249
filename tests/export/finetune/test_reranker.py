"""The model in training: exits are cuts of it, its files are those of PEFT, every family is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from tandem.engine.errors import ExportError
from tandem.export.finetune.exit_heads import ExitHeads
from tandem.export.finetune.reranker import Reranker, as_cross_encoder, usual_exits
from tandem.export.finetune.write import write_weights
from tandem.export.quiet import quiet
from tandem.export.source.adapter import load_base
from tandem.export.source.exits import cut, stack_of
from tandem.export.source.resolve import Origin

from ...tiny import tiny_model

PAIRS = [("a value", "the list of files"), ("type name", "index"), ("file", "a string that is longer than the others")]


def moved(base: Path, rank: int = 4, **wishes: object) -> Reranker:
    """A reranker none of whose trained weights is as it began."""
    torch.manual_seed(0)
    reranker = Reranker(str(base), None, False, rank, **{"exits": (1, 2), "length": None, **wishes})
    with torch.no_grad():
        for parameter in reranker.parameters():
            if parameter.requires_grad and parameter.ndim:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return reranker


@pytest.fixture(params=["bert", "xlm-roberta", "modernbert"])
def family(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "base", request.param, layers=3)


@pytest.mark.parametrize("rank", [4, 0])
def test_an_exit_is_the_model_cut_there(family: Path, tmp_path: Path, rank: int):
    reranker = moved(family, rank)
    before = reranker.score(PAIRS)
    write_weights(tmp_path / "out", reranker)
    written = str(tmp_path / "out")
    again = Reranker(*((str(family), written) if rank else (written, None)), False, rank, None, None)
    assert again.exits == (1, 2)
    assert np.abs(before[0] - before[-1]).max() > 1e-3
    np.testing.assert_allclose(again.score(PAIRS), before, atol=5e-3, rtol=5e-3)  # the files are float16
    exact = again.score(PAIRS)
    peft = again.peft[0]
    if peft is not None:
        peft.merge_and_unload()
    cut(again.inner.transformers_model, 2, tmp_path / "out")
    alone = [again.inner.predict([pair], activation_fn=torch.nn.Identity())[0] for pair in PAIRS]
    np.testing.assert_allclose(alone, exact[1], atol=1e-5)


def test_an_adapter_is_a_standard_peft_folder(family: Path, tmp_path: Path):
    reranker = moved(family)
    write_weights(tmp_path, reranker)
    with quiet():
        plain = AutoModelForSequenceClassification.from_pretrained(family, num_labels=1)
        peft = PeftModel.from_pretrained(plain, str(tmp_path)).eval()
    features = reranker.preprocess(PAIRS)
    features.pop("modality")
    with torch.inference_mode():
        found = peft(**features).logits[:, 0].numpy()
    np.testing.assert_allclose(found, reranker.score(PAIRS)[-1], atol=5e-3, rtol=5e-3)


def test_scores_in_batches_are_scores_one_by_one(family: Path):
    reranker = moved(family)
    together = reranker.score(PAIRS * 3, batch=4)
    alone = np.concatenate([reranker.score([pair]) for pair in PAIRS * 3], axis=1)
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=1e-4)
    library = as_cross_encoder(reranker).predict(PAIRS, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(library, together[-1, :3], atol=1e-5)


def test_a_checkpoint_is_the_model(base: Path, tmp_path: Path):
    reranker = moved(base)
    reranker.save(str(tmp_path))
    np.testing.assert_array_equal(Reranker.load(str(tmp_path)).score(PAIRS), reranker.score(PAIRS))


def test_exits_have_heads_of_their_own_and_nothing_else(base: Path):
    network = load_base(Origin("tiny", base)).transformers_model
    heads = ExitHeads(network, stack_of(network), (1, 2))
    behind = ("bert.pooler.dense", "classifier")
    assert heads.names == {f"{name}.{kind}" for name in behind for kind in ("weight", "bias")}
    assert all(parameter.requires_grad for parameter in network.parameters())
    trained = {name for name, each in heads.named_parameters() if each.requires_grad and "embeddings" not in name}
    assert len(trained) == 8


def test_usual_exits_stand_in_the_middle():
    assert (usual_exits(6), usual_exits(12), usual_exits(2), usual_exits(1)) == ((2, 3, 4), (4, 6, 8), (1,), ())


def test_a_model_with_layers_behind_it_takes_no_adapter(tmp_path: Path):
    from ..source.repositories import modular_cross_encoder

    folder = modular_cross_encoder(tmp_path / "modular")
    with pytest.raises(ExportError, match="give --rank 0"):
        Reranker(str(folder), None, False, 4, None, None)
    whole = Reranker(str(folder), None, False, 0, None, None)
    assert whole.exits == ()
    assert whole.score(PAIRS).shape == (1, 3)
