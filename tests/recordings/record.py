"""Writes the expected events of every recorded log anew: `python -m tests.recordings.record`. Then read the diff."""

from tests.recordings.logs import LOGS, fold, read_log, recorded


def main() -> None:
    """Fold each log and keep its events beside it."""
    for name in recorded():
        lines = b"".join(body + b"\n" for body in fold(read_log(name)))
        (LOGS / f"{name}.events.jsonl").write_bytes(lines)


if __name__ == "__main__":
    main()
