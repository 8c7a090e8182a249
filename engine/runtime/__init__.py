"""TokenBatch → outputs: one module a runtime, and the choice between them."""

from .choosing import Choice, RuntimeWish, choose, open_runtime
from .face import Head, Rows, Runtime
from .onnx import OnnxRuntime, Split

__all__ = ["Choice", "Head", "OnnxRuntime", "Rows", "Runtime", "RuntimeWish", "Split", "choose", "open_runtime"]
