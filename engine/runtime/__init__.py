"""TokenBatch → outputs: one module a runtime."""

from .onnx import OnnxRuntime

__all__ = ["OnnxRuntime"]
