"""TokenBatch → outputs: one module a runtime, and the choice between them."""

from .base import Rows, Runtime
from .onnx import OnnxRuntime, Split
from .select import Choice, RuntimeWish, choose, open_runtime

__all__ = ["Choice", "OnnxRuntime", "Rows", "Runtime", "RuntimeWish", "Split", "choose", "open_runtime"]
