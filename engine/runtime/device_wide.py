"""What concerns all of the process on a device, whoever does it. Without PyTorch, which ONNX Runtime need not have."""

from __future__ import annotations

import threading

capturing = threading.Lock()
"""Held by who captures a CUDA graph, or does what another's capture does not survive: wait for the whole device."""
