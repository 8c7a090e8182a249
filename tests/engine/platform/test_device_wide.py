"""What PyTorch keeps of a card's memory, with a PyTorch that only says what it was asked."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from tandem.engine.platform.device_wide import capturing, release_unused


class Cuda:
    """Enough of `torch.cuda`."""

    def __init__(self, initialized: bool, fault: Exception | None = None) -> None:
        self._initialized, self._fault = initialized, fault
        self.emptied: list[bool] = []

    def is_initialized(self) -> bool:
        return self._initialized

    def empty_cache(self) -> None:
        self.emptied.append(capturing.locked())
        if self._fault is not None:
            raise self._fault


@pytest.mark.parametrize("initialized", [True, False])
def test_unused_blocks_are_given_back_while_nothing_is_captured(monkeypatch: pytest.MonkeyPatch, initialized: bool):
    cuda = Cuda(initialized)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    release_unused()
    assert cuda.emptied == [True] * initialized
    assert not capturing.locked()


def test_a_broken_context_does_not_keep_the_lock(monkeypatch: pytest.MonkeyPatch):
    cuda = Cuda(True, RuntimeError("CUDA error: an illegal memory access was encountered"))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    release_unused()
    assert cuda.emptied == [True]
    assert not capturing.locked()


def test_pytorch_is_not_loaded_for_it():
    script = "import sys; from tandem.engine.platform.device_wide import release_unused as release; release()"
    subprocess.run([sys.executable, "-c", f"{script}; assert 'torch' not in sys.modules"], check=True)
