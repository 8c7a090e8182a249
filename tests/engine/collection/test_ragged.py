from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tandem.engine.collection.ragged import Ragged, RaggedWriter, encode_strings
from tandem.engine.errors import CollectionError
from tandem.engine.platform.npy import ArrayWriter, open_array
from tandem.engine.text.tokens import pack

sequences = st.lists(st.lists(st.integers(0, 65_535), max_size=9), max_size=12)


def write(path: Path, shards: list[list[list[int]]], dtype: str) -> None:
    writer = RaggedWriter(path, dtype)
    for shard in shards:
        batch = pack(shard)
        writer.append(batch.ids, batch.lengths)
    writer.close()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shards=st.lists(sequences, max_size=4), data=st.data())
def test_reads_back_what_was_appended(tmp_path: Path, shards: list[list[list[int]]], data: st.DataObject) -> None:
    write(tmp_path / "tokens", shards, "uint16")
    rows = [row for shard in shards for row in shard]
    store = Ragged.open(tmp_path / "tokens", np.uint16)
    assert [store[place].tolist() for place in range(len(store))] == rows
    if rows:
        places = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20))
        flat, lengths = store.take(places)
        assert flat.tolist() == [token for place in places for token in rows[place]]
        assert lengths.tolist() == [len(rows[place]) for place in places]


def test_strings_of_any_script(tmp_path: Path) -> None:
    texts = ["", "naïve", "漢字", "🦀 crab", "\x00"]
    writer = RaggedWriter(tmp_path / "texts", np.uint8)
    writer.append(*encode_strings(texts))
    writer.close()
    assert Ragged.open(tmp_path / "texts", np.uint8).strings([4, 1, 0, 3, 2]) == [
        "\x00",
        "naïve",
        "",
        "🦀 crab",
        "漢字",
    ]


def test_header_is_numpys_own_format_however_many_rows(tmp_path: Path) -> None:
    for rows in (0, 1, 12_345):
        writer = ArrayWriter(tmp_path / "vectors.npy", np.float32, (3,))
        writer.append(np.ones((rows, 3), dtype=np.float32))
        writer.close()
        assert np.load(tmp_path / "vectors.npy").shape == (rows, 3)
        assert (tmp_path / "vectors.npy").stat().st_size == 128 + 12 * rows


def test_refuses_other_types_and_offsets_of_another_store(tmp_path: Path) -> None:
    write(tmp_path / "a", [[[1, 2], [3]]], "uint16")
    write(tmp_path / "b", [[[1, 2], [3, 4]]], "uint16")
    with pytest.raises(CollectionError, match="uint32"):
        Ragged.open(tmp_path / "a", np.uint32)
    (tmp_path / "b.offsets.npy").replace(tmp_path / "a.offsets.npy")
    with pytest.raises(CollectionError, match="does not fit"):
        Ragged.open(tmp_path / "a", np.uint16)
    (tmp_path / "b.npy").write_bytes(b"not an array")
    with pytest.raises(CollectionError, match="cannot be read as an array"):
        open_array(tmp_path / "b.npy", np.uint16, 1)


def test_refuses_a_pickle(tmp_path: Path) -> None:
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CollectionError, match="cannot be read"):
        open_array(tmp_path / "evil.npy", np.uint8, 1)
