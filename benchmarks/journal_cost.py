"""What journaling costs the actor per record: the core, the encoding of reports, and the files, without sockets.

    python -m benchmarks.journal_cost [directory]

Each engine step brings one record to each of 32 streams, read by one frontend: one write for each stream, one message.
"""

import sys
import tempfile
import time
from pathlib import Path

from engine_worker.actor import Actor
from engine_worker.config import Settings
from engine_worker.engines.interface import TurnPrepared
from engine_worker.journal_files import JournalFiles
from engine_worker.mailbox import Emitted, EngineReady, FlushDue, Received, ReplayDue, Send, TurnQueued, WriteJournal
from protocol.codec import VERSION, encode_report
from protocol.commands import Addressed, Hello, Open
from protocol.records import Step, TextDelta, TurnStarted
from protocol.reports import ModelCard

STREAMS = 32
STEPS = 2000
STEP = Step((4711,), (TextDelta(" word"),))


def microseconds_per_record(files: JournalFiles | None, settings: Settings) -> float:
    """Processor and system time of one record; without `files` nothing is written."""
    actor = Actor(settings, "worker-0", "incarnation")
    ids = [f"resp_{number:032x}" for number in range(STREAMS)]

    def give(message: object) -> None:
        for effect in actor.handle(message, 0.0):  # type: ignore[arg-type]
            match effect:
                case Send(_, report):
                    encode_report(report)
                case WriteJournal() if files is not None:
                    files.write(effect)
                case _:
                    pass

    give(EngineReady((ModelCard("m"),)))
    give(Received(b"f", Addressed("", Hello(VERSION, "f"))))
    for number, response_id in enumerate(ids):
        give(Received(b"f", Addressed("incarnation", Open(number, response_id, 0, b"{}"))))
        prepared, started = TurnPrepared(0, (1, 2, 3), b"state"), TurnStarted(0, 3)
        give(Emitted(((response_id, prepared), (response_id, started))))
        give(TurnQueued(response_id))
    if files is None:
        for response in actor._responses.live.values():
            response.journal_bytes = 0
    give(FlushDue())
    give(ReplayDue())  # From here on the readers are live.
    begun = time.process_time()
    for _ in range(STEPS):
        give(Emitted(tuple((response_id, STEP) for response_id in ids)))
    return (time.process_time() - begun) / (STREAMS * STEPS) * 1e6


def main() -> None:
    """Print the cost of a record without a journal and with one, and what the system can take a second."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if sys.argv[1:] else None) as directory:
        settings = Settings(run_dir=Path(directory), replay_interval_s=1.0)
        files = JournalFiles(settings, "worker-0")
        for name, used in (("without", None), ("with", files), ("without", None), ("with", files)):
            cost = microseconds_per_record(used, settings)
            print(f"{name:>8} journal: {cost:5.1f} us a record, {1e6 / cost:8.0f} records a second")
        files.close()


if __name__ == "__main__":
    main()
