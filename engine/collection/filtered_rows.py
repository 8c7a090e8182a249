"""Which passages filters leave: worked out once, and remembered for the filters that were asked for last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator

from ..recall import RowMask
from .filters import Filter, Found

FILTERS = 128
"""Filters whose passages are remembered: 16 MB for a million passages."""


class FilteredRows:
    """The filters of one collection; any number of threads may ask."""

    def __init__(self, values: Found, live: RowMask | None = None) -> None:
        """live: the passages that are not deleted; None: all"""
        self._values = values
        self._live = live
        self._known: OrderedDict[bytes, RowMask] = OrderedDict()
        self._lock = threading.Lock()

    def known(self, filters: Filter) -> RowMask | None:
        """What `filters` leaves, where that is remembered."""
        with self._lock:
            if (rows := self._known.get(filters.fingerprint)) is not None:
                self._known.move_to_end(filters.fingerprint)
            return rows

    def steps(self, filters: Filter) -> Generator[None, None, RowMask]:
        """Work it out: yields after each condition, then returns what is left, which is remembered."""
        mask = yield from filters.steps(self._values)
        rows = RowMask(mask if self._live is None else mask & self._live.mask)
        with self._lock:
            self._known[filters.fingerprint] = rows
            if len(self._known) > FILTERS:
                self._known.popitem(last=False)
        return rows
