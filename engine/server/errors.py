"""One failure, told in the dialect of the route: clients parse error bodies, and show users what they find in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import (
    CorpusError,
    DeviceError,
    EngineClosed,
    InferenceError,
    InputError,
    Overloaded,
    StorageError,
    TandemError,
)

Kind = Literal[
    "empty", "validation", "unauthorized", "forbidden", "not_found", "method", "too_large", "unsupported",
    "body_timeout", "overloaded", "unavailable", "deadline", "model", "internal",
]  # fmt: skip
Dialect = Literal["tandem", "tei", "flat", "openai", "nim"]

STATUS: dict[Kind, int] = {
    "empty": 422, "validation": 422, "unauthorized": 401, "forbidden": 403, "not_found": 404, "method": 405,
    "too_large": 413, "unsupported": 415, "body_timeout": 408, "overloaded": 429, "unavailable": 503, "deadline": 504,
    "model": 500, "internal": 500,
}  # fmt: skip
# TEI's error_type for each kind; clients tell a full queue from a bad request by it.
_TEI: dict[Kind, str] = {"empty": "Empty", "overloaded": "Overloaded", "unavailable": "Unhealthy"}
_TEI_STATUS: dict[Kind, int] = {"empty": 400, "model": 424}
_BACKEND: set[Kind] = {"model", "internal", "deadline"}
_OPENAI: dict[Kind, tuple[str, str]] = {
    "unauthorized": ("authentication_error", "invalid_api_key"),
    "overloaded": ("rate_limit_error", "rate_limit_exceeded"),
    "unavailable": ("server_error", "service_unavailable"),
    "deadline": ("server_error", "timeout"),
    "model": ("server_error", "model_error"),
    "internal": ("server_error", "internal_error"),
    "not_found": ("invalid_request_error", "model_not_found"),
}
# Which paths speak which dialect; all others speak our own. "flat" is for Jina, Cohere and Infinity.
_DIALECTS: dict[Dialect, re.Pattern[str]] = {
    "tei": re.compile(r"/(invocations|embed|predict|rerank|tokenize|decode|similarity|info|health|ping)?"),
    "flat": re.compile(r"/(v[12]|infinity)/(rerank|embed)|/v1/collections/[^/]+/rerank"),
    "openai": re.compile(r"(/v1|/infinity)?/(embeddings|score|models(/.+)?)|/v1/collections/[^/]+/embeddings"),
    "nim": re.compile(r"/v1/(ranking|retrieval/.+/reranking)"),
}


@dataclass(eq=False)
class Failure(Exception):
    """Why a request gets no answer. `message` is for its sender and holds no text of a query or passage."""

    kind: Kind
    message: str
    retry_after: int | None = None
    """Seconds after which another try makes sense."""
    param: str | None = None
    """The field that is wrong."""
    status_override: int | None = None
    close: bool = False
    """Whether the connection ends with the answer: the rest of the request was not read."""
    reason: str | None = None
    """For the metrics, where the kind alone does not say it."""

    def status(self, dialect: Dialect) -> int:
        """The HTTP status."""
        if self.status_override is not None:
            return self.status_override
        if dialect == "tei" and self.kind in _TEI_STATUS:
            return _TEI_STATUS[self.kind]
        return STATUS[self.kind]

    def headers(self) -> dict[str, str]:
        """Headers that go with the body."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.kind == "unauthorized":
            headers["www-authenticate"] = 'Bearer realm="tandem"'
        if self.close:
            headers["connection"] = "close"
        return headers

    def body(self, dialect: Dialect, request_id: str) -> dict[str, Any]:
        """The JSON body, as this family's clients parse it."""
        status = self.status(dialect)
        if dialect in ("tei", "flat"):  # TEI and Weaviate read `error`, Cohere and vLLM `message`, Jina `detail`
            kind = _TEI.get(self.kind, "Backend" if self.kind in _BACKEND else "Validation")
            return {
                "error": self.message,
                "error_type": kind,
                "message": self.message,
                "detail": self.message,
                "id": request_id,
            }
        if dialect == "openai":
            kind, code = _OPENAI.get(self.kind, ("invalid_request_error", self.kind))
            return {"error": {"message": self.message, "type": kind, "param": self.param, "code": code}}
        if dialect == "nim":
            detail = [{"msg": self.message, "loc": [self.param or "body"], "type": self.kind}]
            return {"detail": detail if status == 422 else self.message}
        return {"error": {"type": self.kind, "message": self.message, "param": self.param, "request_id": request_id}}


def dialect_of(path: str) -> Dialect:
    """The family whose clients call `path`; our own for the rest."""
    return next((dialect for dialect, paths in _DIALECTS.items() if paths.fullmatch(path)), "tandem")


def failure_of(error: Exception, hide: Iterable[str] = ()) -> Failure:
    """An engine's error as a failure; `hide` are the collections' paths, which are nobody's business outside."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, InputError | CorpusError):
        message = str(error)
        for path in sorted(hide, key=len, reverse=True):
            message = message.replace(path, "the collection")
        return Failure("validation", message)
    if isinstance(error, Overloaded):
        return Failure("overloaded", "the queue is full; try again later", retry_after=1)
    if isinstance(error, StorageError):
        return Failure("unavailable", "the collection cannot be written now; the server's log says why", retry_after=5)
    if isinstance(error, DeviceError):
        return Failure("unavailable", "the server's device stopped working; try another one", retry_after=5)
    if isinstance(error, EngineClosed):
        return Failure("unavailable", "the server is going down; try another one", retry_after=5)
    if isinstance(error, InferenceError):
        return Failure("model", "the model failed on this request; the server's log says why")
    if isinstance(error, TandemError):
        return Failure("internal", "the server could not answer; its log says why")
    return Failure("internal", "an error of the server's own; its log says which")


def unavailable(why: str, seconds: float = 0.0) -> Failure:
    """503 with the advice to come back when that is likely to be over, which takes so many seconds."""
    return Failure("unavailable", f"{why}; try again soon", retry_after=max(2, math.ceil(seconds)))


def unknown_collection() -> Failure:
    """404 for a name that is not served."""
    return Failure("not_found", "no such collection is served here; GET /v1/collections names those that are")
