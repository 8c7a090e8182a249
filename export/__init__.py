"""How a model becomes an artifact: ONNX graphs proven against sentence-transformers, and fine-tuning.

The libraries behind it (PyTorch, transformers, sentence-transformers) are imported with the first use of a function,
not with the package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..engine.errors import ExportError

if TYPE_CHECKING:
    from .pipeline import export_model
    from .verify import Report, verify_artifact

__all__ = ["Report", "export_model", "verify_artifact"]


def __getattr__(name: str) -> Any:
    if name in ("Report", "verify_artifact"):
        from . import verify

        return getattr(verify, name)
    if name == "export_model":
        try:
            from .pipeline import export_model
        except ImportError as error:
            raise ExportError(
                f"exporting a model needs more libraries ({error}): pip install 'tandem[export]'"
            ) from error
        return export_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
