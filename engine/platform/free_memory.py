"""Main memory that this process may still take."""

from __future__ import annotations

from pathlib import Path


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can be taken without swapping, and within the control group's limit (containers); None where the
    system does not say.

    What only caches files counts as free: the kernel gives it up.
    """
    free = _field(root / "proc/meminfo", "MemAvailable:")
    group = root / "sys/fs/cgroup"
    limit, used = _number(group / "memory.max"), _number(group / "memory.current")
    found = [] if free is None else [1024 * free]
    if limit is not None and used is not None:
        found.append(max(0, limit - used + (_field(group / "memory.stat", "inactive_file") or 0)))
    return min(found, default=None)


def _field(path: Path, name: str) -> int | None:
    """The number behind `name` in a file of names and numbers."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), None)


def _number(path: Path) -> int | None:
    """The number that is all of a file; None where there is none, as "max" for no limit."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
