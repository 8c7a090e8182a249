"""How many values a body has is known before any is made."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.server import json_body
from tandem.engine.server.errors import Failure
from tandem.engine.server.json_body import parsed, values_outside_strings

anything = st.recursive(
    st.none() | st.integers(-9, 9) | st.text(alphabet='a"\\,[{é\n'),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet='b"\\,[', max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


def counted(value: object) -> int:
    """Lists, objects, and what is in them behind the first."""
    inner = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else None
    return 0 if inner is None else 1 + max(0, len(inner) - 1) + sum(map(counted, inner))


@given(anything)
def test_signs_inside_strings_do_not_count(value: object):
    body = json.dumps(value, ensure_ascii=False).encode()
    assert values_outside_strings(body) == counted(value)
    assert asyncio.run(parsed(body)) == value


@pytest.mark.parametrize("small", [0, json_body.SMALL], ids=["in a thread", "at once"])
def test_a_text_of_commas_is_one_value_and_a_list_of_lists_is_many(monkeypatch: pytest.MonkeyPatch, small: int):
    monkeypatch.setattr(json_body, "SMALL", small)
    assert asyncio.run(parsed(b'["' + b"," * 1_000_000 + b'"]')) == ["," * 1_000_000]
    with pytest.raises(Failure, match="the limit is 131072"):
        asyncio.run(parsed(b"[" + b"[]," * 131_072 + b"[]]"))


@pytest.mark.parametrize("body", [b"", b"{", b"[NaN]", b'"\\ud800"', b"[" * 100_000, b'{"a": 1} x'])
def test_what_is_no_json_is_told_so(body: bytes):
    with pytest.raises(Failure, match="not valid JSON"):
        asyncio.run(parsed(body))
