"""Our counts and histograms expose what the client library's own would."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tandem.engine.server.tallies import LabelledCounts, Observed

BOUNDS = (0.001, 0.0025, 1.0, 2.0, 16.0, 1024.0)
VALUES = [0.0, -1.0, 0.001, 0.0011, 1.0, 2.0, 2.5, 1024.0, 1e9]


def samples(registry: CollectorRegistry) -> dict[tuple[str, frozenset], float]:
    text = generate_latest(registry).decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")  # when a series began, which nobody asked for
    }


def kinds(registry: CollectorRegistry) -> set[tuple[str, str, str]]:
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(each.name, each.type, each.documentation) for each in families if not each.name.endswith("_created")}


def test_what_is_exposed_is_what_the_library_exposes():
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    drawn = random.Random(0)
    values = VALUES + [drawn.expovariate(1) for _ in range(200)]

    whole, labelled = Observed(ours, "whole", "W", BOUNDS), Observed(ours, "part", "P", BOUNDS, "stage")
    counted, bare = (
        LabelledCounts(ours, "answers", "A", ("route", "status")),
        LabelledCounts(ours, "te", "T", ("method",), bare=True),
    )
    reference = Histogram("whole", "W", registry=theirs, buckets=BOUNDS)
    parts = Histogram("part", "P", ("stage",), registry=theirs, buckets=BOUNDS)
    counter = Counter("answers", "A", ("route", "status"), registry=theirs)
    gauge = Gauge("te", "T", ("method",), registry=theirs)
    assert samples(ours) == samples(theirs), "before anything was observed"

    for value in values:
        stage, route = drawn.choice("ab"), drawn.choice(["/x", '/"y"\n'])
        whole.observe(value)
        labelled.observe(value, stage)
        counted.add(route, "200")
        bare.add(stage)
        reference.observe(value)
        parts.labels(stage).observe(value)
        counter.labels(route, 200).inc()
        gauge.labels(stage).inc()
    assert samples(ours) == samples(theirs)
    assert kinds(ours) == kinds(theirs)
