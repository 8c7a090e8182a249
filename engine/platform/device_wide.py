"""What concerns all of the process on a device, whoever does it. Without PyTorch, which ONNX Runtime need not have."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress

capturing = threading.Lock()
"""Held by who captures a CUDA graph, or does what another's capture does not survive: wait for the whole device."""


def release_unused() -> None:
    """Give PyTorch's unused blocks of the card's memory back, where PyTorch is loaded and has used the card.

    They count as taken when the next engine asks what is free. Freeing waits for the whole device.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    with capturing, suppress(RuntimeError):  # a broken context, which whoever broke it has said
        torch.cuda.empty_cache()
