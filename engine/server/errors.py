"""One failure, told in the dialect of the route: clients parse error bodies, and show users what they find in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ..errors import DeviceError, EngineClosed, InferenceError, InputError, Overloaded, TandemError

Kind = Literal[
    "empty", "validation", "unauthorized", "forbidden", "not_found", "method", "too_large", "unsupported",
    "body_timeout", "overloaded", "unavailable", "deadline", "model", "internal",
]  # fmt: skip
Dialect = Literal["tandem", "tei", "rerank", "shared", "cohere", "openai", "nim"]

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
}
_DIALECTS: dict[str, Dialect] = {
    **dict.fromkeys(("/embed", "/predict", "/tokenize", "/decode", "/similarity", "/info", "/health", "/ping"), "tei"),
    "/rerank": "rerank",
    "/v1/rerank": "shared",
    "/v2/rerank": "cohere",
    **dict.fromkeys(("/v1/embeddings", "/embeddings", "/v1/models"), "openai"),
    **dict.fromkeys(("/v1/ranking", "/v1/retrieval/nvidia/reranking"), "nim"),
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

    def status(self, dialect: Dialect) -> int:
        """The HTTP status."""
        if self.status_override is not None:
            return self.status_override
        if dialect in ("tei", "rerank") and self.kind in _TEI_STATUS:
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
        if dialect == "tei":
            return self._tei()
        if dialect == "rerank":  # TEI, Weaviate and Haystack read `error`, vLLM `message`, LangChain `detail`
            return {**self._tei(), "message": self.message, "detail": self.message}
        if dialect == "shared":  # Jina reads `detail`, Cohere v1 `message`
            return {"message": self.message, "detail": self.message, "id": request_id}
        if dialect == "cohere":
            return {"message": self.message, "id": request_id}
        if dialect == "openai":
            kind, code = _OPENAI.get(self.kind, ("invalid_request_error", self.kind))
            return {"error": {"message": self.message, "type": kind, "param": self.param, "code": code}}
        if dialect == "nim":
            detail = [{"msg": self.message, "loc": [self.param or "body"], "type": self.kind}]
            return {"detail": detail if status == 422 else self.message}
        return {"error": {"type": self.kind, "message": self.message, "param": self.param, "request_id": request_id}}

    def _tei(self) -> dict[str, str]:
        fallback = "Backend" if self.kind in _BACKEND else "Validation"
        return {"error": self.message, "error_type": _TEI.get(self.kind, fallback)}


def dialect_of(path: str) -> Dialect:
    """The family whose clients call `path`; our own for the rest."""
    return _DIALECTS.get(path.rstrip("/") or "/", "tandem")


def failure_of(error: Exception, hide: str = "") -> Failure:
    """An engine's error as a failure; `hide` is the collection's path, which is nobody's business outside."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, InputError):
        message = str(error).replace(hide, "the collection") if hide else str(error)
        return Failure("validation", message)
    if isinstance(error, Overloaded):
        return Failure("overloaded", "the queue is full; try again later", retry_after=1)
    if isinstance(error, DeviceError):
        return Failure("unavailable", "the server's device stopped working; try another one", retry_after=5)
    if isinstance(error, EngineClosed):
        return Failure("unavailable", "the server is going down; try another one", retry_after=5)
    if isinstance(error, InferenceError):
        return Failure("model", "the model failed on this request; the server's log says why")
    if isinstance(error, TandemError):
        return Failure("internal", "the server could not answer; its log says why")
    return Failure("internal", "an error of the server's own; its log says which")
