"""Log lines are JSON of plain ASCII."""

from __future__ import annotations

import json
import logging

from tandem.engine.server.logs import JsonLines


def test_no_character_of_a_foreign_name_reaches_a_terminal_as_a_command():
    name = "caf\u00e9 \x1b[2J\x7f\x9b1m\u202e"
    record = logging.makeLogRecord({"name": "tandem", "msg": "opened", "levelname": "INFO", "path": name})
    line = JsonLines().format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["path"] == name
