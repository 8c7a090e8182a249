"""Which segments should become one: tiered, so that a passage is written anew once for each class of sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .manifest import SegmentRecord

# A segment costs a search some 50 us; merging eight of one class, each passage is written anew once a class.
MANY = 8
CLASS = 8
"""Times larger that the segments of the next class are."""
SMALL = 1024
"""Passages below which all segments are of one class."""
DELETED = 0.2
"""Share of a segment's passages that may be deleted before it is written anew."""


def due(segments: Sequence[SegmentRecord]) -> slice | None:
    """Which neighbouring segments should become one, None where none should.

    One of which more than a fifth is deleted; or the last ones up to a class of which there are MANY, with all smaller
    ones between and behind them. Neighbours only, so that passages stay in the order in which they were added.
    """
    for number, segment in enumerate(segments):
        if segment.deleted > DELETED * segment.passages:
            return slice(number, number + 1)
    classes = [_class(segment.live) for segment in segments]
    for limit in sorted(set(classes)):
        start = len(classes)
        while start and classes[start - 1] <= limit:
            start -= 1
        if classes[start:].count(limit) >= MANY:
            return slice(start, len(classes))
    return None


def _class(passages: int) -> int:
    return 0 if passages <= SMALL else math.ceil(math.log(passages / SMALL, CLASS))
