from __future__ import annotations

from pathlib import Path

import pytest

from tandem.engine.platform import cpu_features

ZEN3 = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse4_2 avx avx2 fma\n\nprocessor\t: 1\nflags\t\t: none\n"


@pytest.fixture
def listed(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / f"cpuinfo{len(list(tmp_path.iterdir()))}"
        path.write_text(text)
        return path

    return write


def test_the_first_processor_speaks_for_all(listed):
    assert cpu_features.field("model name", listed(ZEN3)) == "AMD EPYC"
    assert cpu_features.flags(listed(ZEN3)) == {"fpu", "sse4_2", "avx", "avx2", "fma"}


def test_a_field_or_file_that_is_missing_is_none(tmp_path: Path, listed):
    assert cpu_features.field("model name", listed("flags : avx2\n")) is None
    assert cpu_features.field("flags", tmp_path / "none") is None
    assert cpu_features.flags(tmp_path / "none") == frozenset()


@pytest.mark.parametrize(
    ("flags", "machine", "overflows"),
    [
        ("avx2", "x86_64", True),
        ("avx512f avx512_bf16", "x86_64", True),
        ("avx512f avx512_vnni", "x86_64", False),
        ("avx2 avx_vnni", "AMD64", False),
        ("asimddp i8mm", "aarch64", False),
        ("", "x86_64", True),
    ],
)
def test_int8_overflows_on_x86_without_vnni(listed, flags: str, machine: str, overflows: bool):
    assert cpu_features.int8_overflows(listed(f"flags : {flags}\n"), machine) is overflows


@pytest.mark.parametrize(
    ("line", "has"),
    [("flags : avx512f avx512_bf16", True), ("flags : avx512f avx512_vnni", False), ("Features : asimd bf16", True)],
)
def test_bfloat16_by_either_name_of_the_list(listed, line: str, has: bool):
    assert cpu_features.has_bfloat16(listed(line + "\n")) is has
