"""Counts and histograms that cost one call: what a request of every kind adds to.

The client library's own take a lock, check and search in Python: a dozen observations were an eighth of all the calls
that a small search makes in the server. These rely on one thread adding at a time, as the event loop does and a device
thread, and the library reads them when it is asked for the exposition.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from math import inf

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class LabelledCounts(Collector):
    """A number for each tuple of label values."""

    def __init__(
        self, registry: CollectorRegistry, name: str, what: str, labels: Sequence[str], *, bare: bool = False
    ) -> None:
        """`bare`: told as a gauge, since the library appends `_total` to a counter's name."""
        self._family = GaugeMetricFamily if bare else CounterMetricFamily
        self._name, self._what, self._labels = name, what, labels
        self._counts: dict[tuple[str, ...], int] = {}
        registry.register(self)

    def add(self, *labels: str) -> None:
        """One more of these."""
        self._counts[labels] = self._counts.get(labels, 0) + 1

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """What the library asks for."""
        family = self._family(self._name, self._what, labels=self._labels)
        for labels, count in list(self._counts.items()):  # a reader's thread may be another
            family.add_metric(labels, count)
        yield family


class Observed(Collector):
    """A histogram for each value of one label, or one histogram."""

    def __init__(
        self, registry: CollectorRegistry, name: str, what: str, bounds: Sequence[float], label: str | None = None
    ) -> None:
        """`bounds`: the buckets' upper ends, rising; what lies above all of them is counted too."""
        self._name, self._what, self._bounds = name, what, bounds
        self._label = label
        self._rows: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        if label is None:
            self._row("")
        registry.register(self)

    def observe(self, value: float, label: str = "") -> None:
        """One more value."""
        row = self._rows.get(label)
        if row is None:
            row = self._row(label)
        row[bisect_left(self._bounds, value)] += 1
        self._sums[label] += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What the library asks for."""
        family = HistogramMetricFamily(self._name, self._what, labels=[] if self._label is None else [self._label])
        for label, row in list(self._rows.items()):
            buckets, below = [], 0
            for bound, count in zip((*self._bounds, inf), row, strict=True):
                below += count
                buckets.append((floatToGoString(bound), below))  # type: ignore[no-untyped-call]
            family.add_metric([] if self._label is None else [label], buckets, self._sums[label])
        yield family

    def _row(self, label: str) -> list[int]:
        self._sums[label] = 0.0
        return self._rows.setdefault(label, [0] * (len(self._bounds) + 1))
