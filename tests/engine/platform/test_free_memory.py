from __future__ import annotations

from pathlib import Path

import pytest

from tandem.engine.platform.free_memory import free_memory

MEMINFO = "MemTotal:       16000 kB\nMemFree:         2000 kB\nMemAvailable:    8000 kB\n"


@pytest.fixture
def system(tmp_path: Path):
    def write(meminfo: str | None = MEMINFO, **group: str) -> Path:
        for name, text in {**({} if meminfo is None else {"proc/meminfo": meminfo}), **_paths(group)}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


def _paths(group: dict[str, str]) -> dict[str, str]:
    return {f"sys/fs/cgroup/memory.{name}": text for name, text in group.items()}


def test_without_a_limit_it_is_what_the_system_can_give(system):
    assert free_memory(system()) == 8000 * 1024
    assert free_memory(system(max="max\n", current="5000\n", stat="inactive_file 10\n")) == 8000 * 1024


def test_a_container_has_what_its_limit_leaves_and_its_cache_of_files(system):
    root = system(max="1000000\n", current="900000\n", stat="anon 700000\ninactive_file 150000\nactive_file 9\n")
    assert free_memory(root) == 250_000
    assert free_memory(system(max="1000\n", current="5000\n", stat="anon 1\n")) == 0


def test_a_container_larger_than_its_machine_has_what_the_machine_has(system):
    assert free_memory(system(max="999999999999\n", current="0\n", stat="")) == 8000 * 1024


def test_a_system_that_does_not_say_is_none(system):
    assert free_memory(system(meminfo=None)) is None
    assert free_memory(system(meminfo="MemTotal: 1 kB\n")) is None


def test_this_machine_says():
    if Path("/proc/meminfo").exists():
        assert free_memory() > 2**20
