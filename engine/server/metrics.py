"""Prometheus metrics: ours, and TEI's by their names, so that its Grafana boards work. No text ever is a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ..result import DegradedCode, Timings
from .model_info import Facts

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_TOKENS = tuple(2**power for power in range(4, 20))
# What TEI counts as requests: those of the models. Probes, metrics and tokenising are none.
_TEI_COUNTED = {
    "/embed", "/predict", "/rerank", "/similarity", "/invocations", "/embeddings", "/score", "/infinity/rerank",
    "/infinity/embeddings", "/v1/embed", "/v1/embeddings", "/v1/ranking", "/v1/rerank", "/v1/score", "/v1/search",
    "/v1/retrieval/{model:path}/reranking", "/v2/embed", "/v2/rerank",
    *(f"/v1/collections/{{collection}}/{what}" for what in ("embeddings", "rerank", "search")),
}  # fmt: skip
# TEI's words for our kinds of failure; the others keep their own.
_TEI_ERRORS = {"empty": "validation", "model": "inference", "internal": "inference", "unavailable": "unhealthy"}
STAGES = ("tokenize", "queue", "encode", "recall", "fetch", "rerank")


class Metrics:
    """One server's registry; nothing global, so that two servers in one process do not mix."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "tandem_requests", "Answers by route and status", ("route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "tandem_request_seconds", "Headers to answer", ("route",), buckets=_SECONDS, registry=registry
        )
        self.stages = Histogram(
            "tandem_stage_seconds", "Time of each stage", ("stage",), buckets=_SECONDS, registry=registry
        )
        self.degraded = Counter("tandem_degraded", "Searches not reranked as asked for", ("reason",), registry=registry)
        self.rejected = Counter("tandem_rejected", "Requests refused", ("reason",), registry=registry)
        self.cancelled = Counter("tandem_cancelled", "Clients that left before the answer", registry=registry)
        self.retried = Counter("tandem_retried", "Calls made again after a worker ended", registry=registry)
        self.restarts = Counter("tandem_worker_restarts", "Workers that ended unasked", ("worker",), registry=registry)
        self.swaps = Counter("tandem_swaps", "New versions of the collection", ("outcome",), registry=registry)
        self.version = Gauge(
            "tandem_collection_info", "1 for the version that is served", ("collection", "version"), registry=registry
        )
        self._served: dict[str, str] = {}
        self._ready = Gauge("tandem_worker_ready", "1 while a worker answers", ("worker",), registry=registry)
        self._reserved = Gauge(
            "tandem_worker_reserved_seconds", "Predicted seconds of what a worker was given", ("worker",),
            registry=registry,
        )  # fmt: skip
        self.errors = Counter("tandem_model_failures", "Requests a model failed on", registry=registry)
        self.device = Gauge("tandem_device_info", "1 for the device that computes", ("device",), registry=registry)
        self._tei(registry)

    def _tei(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, what: str, bounds: Sequence[float] = _SECONDS) -> Histogram:
            return Histogram(name, what, buckets=bounds, registry=registry)

        # Gauges, since the library appends `_total` to a counter's name.
        self.te_count = Gauge("te_request_count", "Requests", ("method",), registry=registry)
        self.te_success = Gauge("te_request_success", "Answered requests", ("method",), registry=registry)
        self.te_failure = Gauge("te_request_failure", "Failed requests", ("err",), registry=registry)
        self.te_duration = histogram("te_request_duration", "Seconds of a request")
        self.te_tokenization = histogram("te_request_tokenization_duration", "Seconds of tokenising")
        self.te_queue = histogram("te_request_queue_duration", "Seconds of waiting")
        self.te_inference = histogram("te_request_inference_duration", "Seconds of the model")
        self.te_length = histogram("te_request_input_length", "Tokens of a request", _TOKENS)
        self.te_batch_size = histogram("te_batch_next_size", "Sequences of a micro-batch", _SIZES)
        self.te_batch_tokens = histogram("te_batch_next_tokens", "Tokens of a micro-batch", _TOKENS)
        self.te_queue_size = Gauge("te_queue_size", "Requests that wait for the device", registry=registry)

    def gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        """A gauge read when asked for."""
        Gauge(name, what, registry=self.registry).set_function(value)

    def worker(self, number: int, ready: Callable[[], float], seconds: Callable[[], float]) -> None:
        """What is told of a worker when it is asked for."""
        name = str(number)
        self.restarts.labels(name)
        self._ready.labels(name).set_function(ready)
        self._reserved.labels(name).set_function(seconds)

    def serving(self, facts: Facts) -> None:
        """A version of a collection, or a model by itself, takes requests on a device from now on."""
        self.device.clear()
        self.device.labels(facts.device).set(1)
        if not facts.searched:
            return
        self.gone(facts.name)
        self._served[facts.name] = facts.version
        self.version.labels(facts.name, facts.version).set(1)

    def gone(self, name: str) -> None:
        """A collection is served no more."""
        if (version := self._served.pop(name, None)) is not None:
            self.version.remove(name, version)

    def degrade(self, code: DegradedCode | None) -> None:
        """An answer that is not all that was asked for, or late."""
        if code is not None:
            self.degraded.labels(code).inc()

    def refused(self, reason: str) -> None:
        """A connection was ended before there was a request."""
        self.rejected.labels(reason).inc()

    def batch(self, sequences: int, tokens: int) -> None:
        """A micro-batch begins."""
        self.te_batch_size.observe(sequences)
        self.te_batch_tokens.observe(tokens)

    def timings(self, timings: Timings, tokens: int | None = None) -> None:
        """A request of the models was answered."""
        for stage in STAGES:
            if value := getattr(timings, stage):
                self.stages.labels(stage).observe(value / 1e3)
        self.te_tokenization.observe(timings.tokenize / 1e3)
        self.te_queue.observe(timings.queue / 1e3)
        self.te_inference.observe((timings.encode + timings.recall + timings.rerank) / 1e3)
        if tokens is not None:
            self.te_length.observe(tokens)

    def answered(
        self, route: str, status: int, seconds: float, *, single: bool = False, kind: str | None = None
    ) -> None:
        """A request ended, however: `single` for one text instead of a list, `kind` of the failure if it is one."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        if route not in _TEI_COUNTED:
            return
        method = "single" if single else "batch"
        self.te_count.labels(method).inc()
        if status < 400:
            self.te_success.labels(method).inc()
            self.te_duration.observe(seconds)
        else:
            self.te_failure.labels(_TEI_ERRORS.get(kind or "", kind or "disconnected")).inc()

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)
