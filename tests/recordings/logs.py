"""Reads and folds the recorded logs beside this file; see README.md."""

from pathlib import Path

import msgspec

from frontend.projection import Projection
from protocol.records import Record

LOGS = Path(__file__).parent


def recorded() -> list[str]:
    """The names of all recordings."""
    return sorted(path.name.removesuffix(".records.jsonl") for path in LOGS.glob("*.records.jsonl"))


def read_log(name: str) -> list[Record]:
    """The recording's records. `Opened.request` stands in the file as JSON, to be readable, and not as bytes."""
    records: list[Record] = []
    for line in (LOGS / f"{name}.records.jsonl").read_bytes().splitlines():
        tag, *fields = msgspec.json.decode(line)
        if tag == "opened":
            fields[2] = msgspec.json.encode(fields[2])
        records.append(msgspec.convert([tag, *fields], Record))
    return records


def read_events(name: str) -> list[bytes]:
    """The bodies of the events that the recording must give."""
    return (LOGS / f"{name}.events.jsonl").read_bytes().splitlines()


def fold(records: list[Record], after: int = -1) -> list[bytes]:
    """The bodies of the events past `after`."""
    projection = Projection(after)
    return [event.body for record in records for event in projection.apply(record)]
