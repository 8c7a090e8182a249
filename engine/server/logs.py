"""Structured logs: one JSON object a line on stderr."""

from __future__ import annotations

import datetime
import json
import logging
import sys

# What a LogRecord always has; the rest came with `extra`.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _USUAL},
        }
        if record.exc_info:
            line["error"] = getattr(record.exc_info[0], "__name__", "error")
        # In ASCII, and DEL written out: no character of a foreign name reaches a terminal as a command.
        return json.dumps(line, default=str).replace("\x7f", "\\u007f")


def set_up(level: int = logging.INFO) -> None:
    """Send every record of `level` and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)


def where(error: BaseException) -> str:
    """Type and place of an error: its message may quote what a user sent."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = "" if trace is None else f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    return type(error).__name__ + place
