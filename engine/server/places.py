"""Where workers compute: a GPU each where there are some, else a share of the CPU's cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..platform import cuda_driver
from ..platform.device import available_cores
from .settings import ServerSettings

VISIBLE = "CUDA_VISIBLE_DEVICES"
# What a worker will compute on: asked of a child, since it may have to load PyTorch.
_CHOOSE = "import sys; from tandem.engine.platform.device import choose; print(choose(sys.argv[1]).kind)"


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """What one worker has otherwise than this process: variables, and settings of the engine."""

    environment: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


ANYWHERE = WorkerPlace()


def places(settings: ServerSettings) -> list[WorkerPlace]:
    """The place of each worker. Raises InputError for more workers than there are GPUs to compute on."""
    wanted = settings.workers
    if not settings.supervise:
        if wanted not in (None, 1):
            raise InputError(f"{wanted} workers need processes of their own; leave --no-supervise out")
        return [ANYWHERE]
    cards = [] if wanted == 1 or settings.device == "cpu" else _cards()
    if (len(cards) > 1 or (cards and wanted)) and not _computes_there(settings.device):
        cards = []
    count = wanted or max(1, len(cards))
    if count == 1:
        return [ANYWHERE]
    if cards and count > len(cards):
        raise InputError(f"{count} workers are too many for {len(cards)} GPU(s): each needs one of its own")
    threads = {} if settings.threads else {"threads": max(1, available_cores() // count)}
    return [WorkerPlace({VISIBLE: card} if cards else {}, threads) for card in (cards or [""] * count)[:count]]


def _cards() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count, said = cuda_driver.count(), os.environ.get(VISIBLE)
    named = [str(number) for number in range(count)] if said is None else [name.strip() for name in said.split(",")]
    return named[:count]


def _computes_there(device: str) -> bool:
    """Whether the engine reaches the GPUs with the packages that are installed."""
    done = subprocess.run(
        [sys.executable, "-c", _CHOOSE, device],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    return done.stdout.strip() == "cuda"
