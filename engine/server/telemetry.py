"""OpenTelemetry spans, when its SDK is installed: one a request, with its stages as attributes. No text is in them.

Whoever configures a provider (`opentelemetry-instrument`, or `trace_endpoint` here) gets them; the trace of a caller
who sends `traceparent` goes on.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from functools import cache
from typing import Any

from starlette.types import Scope

from ..errors import InputError
from ..result import DegradedCode, Timings

# Ours: where a request goes through FastAPI, that makes spans of its own inside it, and the current one is theirs.
_request: ContextVar[Any] = ContextVar("tandem-span", default=None)


@contextmanager
def request_span(scope: Scope) -> Iterator[Any]:
    """A span around one request, current for what runs in it; None where nobody takes spans."""
    trace = _api()
    # A span that nobody takes costs a fourteenth of what the server does for a small request.
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        yield None
        return
    propagate: Any = importlib.import_module("opentelemetry.propagate")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    carried = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
    with trace.get_tracer("tandem").start_as_current_span(
        "request", context=propagate.extract(carried), kind=trace.SpanKind.SERVER,
        record_exception=False, set_status_on_exception=False,  # a message may quote what the user sent
    ) as span:  # fmt: skip
        token = _request.set(span)
        try:
            yield span
        finally:
            _request.reset(token)


def answered(span: Any, method: str, route: str, status: int, request_id: str) -> None:
    """What became of a request."""
    if span is None:
        return
    span.update_name(f"{method} {route}")
    span.set_attributes({
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "tandem.request_id": request_id,
    })  # fmt: skip
    if status >= 500:
        trace = _api()
        assert trace is not None
        span.set_status(trace.StatusCode.ERROR)


def stages(timings: Timings, degraded: DegradedCode | None = None) -> None:
    """The stages of a call, in milliseconds, on the current request's span."""
    span = _request.get()
    if span is None:
        return
    attributes: dict[str, Any] = {f"tandem.{stage}_ms": value for stage, value in asdict(timings).items()}
    span.set_attributes(attributes | {"tandem.degraded": degraded is not None})


def export_to(endpoint: str) -> None:
    """Send spans to an OTLP collector over HTTP; raises InputError when the packages for it are not installed."""
    try:
        sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
        export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
        resources: Any = importlib.import_module("opentelemetry.sdk.resources")
        otlp: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ImportError as error:
        raise InputError(
            f"trace_endpoint needs {error.name}: pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http"
        ) from error
    provider = sdk.TracerProvider(resource=resources.Resource.create({"service.name": "tandem"}))
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter(endpoint=endpoint)))
    trace = _api()
    assert trace is not None
    trace.set_tracer_provider(provider)


@cache
def _api() -> Any:
    """OpenTelemetry's API where the SDK is there too: without it every span would be made for nothing."""
    try:
        importlib.import_module("opentelemetry.sdk.trace")
        return importlib.import_module("opentelemetry.trace")
    except ImportError:
        return None
