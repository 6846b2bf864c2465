"""What the operator is told, and how much of it."""

import logging

from engine_worker.diagnostics import FloodFilter


def record(line: int, text: str = "bad frame %d", *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("engine_worker", logging.WARNING, "file.py", line, text, arguments or (1,), None)


def test_a_flood_from_one_place_is_cut_and_counted_and_others_are_heard() -> None:
    now = [0.0]
    flood = FloodFilter(lines_max=3, clock=lambda: now[0])
    assert [flood.filter(record(1)) for _ in range(10)] == [True] * 3 + [False] * 7
    assert flood.filter(record(2))
    now[0] = 1.0
    again = record(1)
    assert flood.filter(again)
    assert again.getMessage() == "bad frame 1 (and 7 more like it)"
    after = record(1)
    assert flood.filter(after)
    assert after.getMessage() == "bad frame 1"
