"""Token batches, and joined pairs held to the Hugging Face tokenizer of each family."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tandem.engine.errors import ArtifactError, InputError
from tandem.engine.text.tokenizer import Tokenizer
from tandem.engine.text.tokens import concatenate, cumulative, pack, ragged_indices

from ...tiny import FAMILIES, hf_tokenizer

SEQUENCES = [[5, 6, 7], [], [8], [9, 10]]
ODD = [
    "",
    " ",
    "\n\t",
    "ß",
    "ﬁ",
    "日本語",
    "👩‍👩‍👧",
    "\x00",
    "\ufeffa",
    "a\u0301",
    "[SEP]",
    "</s>",
    "x" * 300,
    "Ünïcode, text.",
]
WORDS = ["the", "a", "return", "value", "of", "function", "list", "is", "not", "argument", "default", "None", "object"]
# Few tokens in many characters: preformatted text, and what no vocabulary has.
GAPS = [" " * 9000, "\n" * 5000, "\t \u3000" * 900, "QUJD" * 3000, "x" * 20_000, "a" + "\u0301" * 5000, "\u200b" * 5000]
# Ordinary words, so that texts get long in tokens; anything Unicode has, so that they get strange.
TEXTS = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=200).map(" ".join),
    st.text(max_size=80),
    st.sampled_from(ODD),
    st.tuples(st.sampled_from(GAPS), st.integers(0, 600)).map(lambda gap: f"the {gap[0][: gap[1]]} value of a list"),
)
SIDES = st.sampled_from(["right", "left"])


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """A family's Hugging Face tokenizer, and the saved file that ours reads."""
    reference = copy.deepcopy(hf_tokenizer(request.param))  # tests change on which side it cuts
    folder = tmp_path_factory.mktemp(request.param)
    reference.save_pretrained(folder)
    return reference, folder / "tokenizer.json"


def joined(reference, query, passages, length, side="right"):
    """The pairs by Hugging Face, in lists: given one at a time, an empty passage would be no pair."""
    reference.truncation_side = side
    queries = [query] * len(passages)
    return reference(queries, passages, truncation="longest_first", max_length=length, return_token_type_ids=True)


def test_a_batch_is_its_sequences():
    batch = pack(SEQUENCES)
    assert len(batch) == 4
    assert [batch[row].tolist() for row in range(4)] == SEQUENCES
    assert batch.lengths.tolist() == [3, 0, 1, 2]


def test_select_copies_rows_in_the_order_asked_for():
    batch = pack(SEQUENCES).select([3, 0, 0, 1])
    assert [batch[row].tolist() for row in range(4)] == [[9, 10], [5, 6, 7], [5, 6, 7], []]


def test_an_empty_batch_packs_selects_and_pads():
    batch = pack([])
    assert len(batch.select([])) == 0
    assert batch.pad(0).ids.shape == (0, 0)


def test_pad_fills_on_the_right_and_masks_it():
    padded = pack(SEQUENCES).pad(99)
    assert padded.ids.tolist() == [[5, 6, 7], [99, 99, 99], [8, 99, 99], [9, 10, 99]]
    assert padded.mask.tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert not padded.segments.any()


def test_concatenate_undoes_a_split():
    batch = pack(SEQUENCES)
    joined = concatenate([batch.select([0, 1]), batch.select([2, 3])])
    assert joined.ids.tolist() == batch.ids.tolist()
    assert joined.cu_seqlens.tolist() == batch.cu_seqlens.tolist()


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=20))
def test_ragged_indices_are_the_ranges_one_after_another(rows):
    starts = np.array([start for start, _ in rows], dtype=np.int64)
    lengths = np.array([length for _, length in rows], dtype=np.int64)
    expected = [index for start, length in rows for index in range(start, start + length)]
    assert ragged_indices(starts, lengths).tolist() == expected
    assert cumulative(lengths)[-1] == len(expected)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=TEXTS, passages=st.lists(TEXTS, min_size=1, max_size=4), length=st.integers(5, 128), side=SIDES)
def test_joined_pairs_are_the_hugging_face_tokenizers(family, query, passages, length, side):
    reference, file = family
    ours = Tokenizer(file, max_length=length, segments=True)
    pairs = ours.pairs(ours.encode(query), ours.encode_many(passages), side)
    expected = joined(reference, query, passages, length, side)
    for row in range(len(passages)):
        assert pairs[row].tolist() == expected["input_ids"][row]
        span = slice(pairs.cu_seqlens[row], pairs.cu_seqlens[row + 1])
        assert pairs.segments[span].tolist() == expected["token_type_ids"][row]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXTS, min_size=1, max_size=4), length=st.integers(4, 128), side=SIDES)
def test_single_sequences_are_the_hugging_face_tokenizers(family, texts, length, side):
    reference, file = family
    reference.truncation_side = side
    ours = Tokenizer(file, max_length=length, segments=False)
    batch = ours.single(ours.encode_many(texts), side)
    for row, text in enumerate(texts):
        assert batch[row].tolist() == reference(text, truncation=True, max_length=length)["input_ids"]


@pytest.mark.parametrize("odd", ODD)
def test_odd_texts_pair_with_each_other(family, odd):
    reference, file = family
    ours = Tokenizer(file, max_length=16, segments=False)
    pairs = ours.pairs(ours.encode(odd), ours.encode_many(ODD))
    assert [pairs[row].tolist() for row in range(len(ODD))] == joined(reference, odd, ODD, 16)["input_ids"]


def test_a_length_without_room_for_text_is_refused(family):
    ours = Tokenizer(family[1], max_length=3, segments=False)
    with pytest.raises(InputError, match="leaves no room"):
        ours.pairs(ours.encode("a"), ours.encode_many(["b"]))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("gap", GAPS)
def test_what_stands_behind_many_characters_is_read(family, gap, side):
    reference, file = family
    reference.truncation_side = side
    text = "\n".join(["the list", gap, "is the value"] * 3)
    ours = Tokenizer(file, max_length=64, segments=False)
    expected = reference(text, truncation=True, max_length=64)["input_ids"]
    assert ours.single(ours.encode_many([text]), side)[0].tolist() == expected


def test_truncation_saved_in_the_file_does_not_change_ids_or_fingerprint(family, tmp_path):
    from tokenizers import Tokenizer as Rust

    rust = Rust.from_file(str(family[1]))
    rust.enable_truncation(max_length=4)
    rust.enable_padding(length=64)
    rust.save(str(tmp_path / "tokenizer.json"))
    plain = Tokenizer(family[1], max_length=128, segments=False)
    other = Tokenizer(tmp_path / "tokenizer.json", max_length=64, segments=False)
    assert other.fingerprint == plain.fingerprint
    assert other.encode("one two three four five six").tolist() == plain.encode("one two three four five six").tolist()


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"model": 1}'])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is not a readable tokenizer"):
        Tokenizer(tmp_path / "tokenizer.json", max_length=16, segments=False)
