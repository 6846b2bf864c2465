"""A process that holds a worker's journals, started by tests: `python -m tests.engine_worker.journal_owner ...`.

    own RUN_DIR WORKER FINGERPRINT COUNT    write COUNT journals, every other one where no disk is; then live on
    return RUN_DIR WORKER                   come back as that worker, and say how many journals there are
    move RUN_DIR WORKER FINGERPRINT COUNT   take over what lies free, and be killed once COUNT files are moved
    fork RUN_DIR WORKER FINGERPRINT COUNT   as `own`, and leave a child behind

It says `begun` before it asks for the lock and `done` when it is there; then it waits to be killed.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from engine_worker import takeover
from engine_worker.config import Settings
from engine_worker.journal import MAGIC, framed
from engine_worker.journal_dirs import JournalFile, JournalOwner
from engine_worker.journal_files import JournalFiles
from engine_worker.mailbox import WriteJournal
from protocol.codec import encode_record
from protocol.records import Opened

CHILD_S = 60


def settings_of(run_dir: Path) -> Settings:
    return Settings(run_dir=run_dir, journal_volatile_dir=str(run_dir / "volatile"), journal_lock_wait_s=30)


def write_journals(files: JournalFiles, count: int, prefix: str = "resp") -> None:
    for number in range(count):
        name = f"{prefix}_{number}"
        begin = MAGIC + framed(encode_record(Opened(name, number, b"{}")))
        files.write(WriteJournal(name, begin, bool(number % 2), first=True, last=False))


async def move(settings: Settings, worker: str, fingerprint: str, count: int) -> None:
    files = JournalFiles(settings, worker)
    files.belong_to(JournalOwner(fingerprint, worker))
    moved = 0

    def take_in(_: str, portion: list[JournalFile], _dead: str) -> None:
        nonlocal moved
        for file in portion:
            if moved == count:
                os.kill(os.getpid(), signal.SIGKILL)
            assert files.move_in(file)
            moved += 1

    takeover.PORTION_FILES_MAX = 2
    await takeover.Takeover(settings, worker, fingerprint, take_in).sweep()


def main(role: str, run_dir: str, worker: str, fingerprint: str = "", count: str = "0") -> None:
    settings = settings_of(Path(run_dir))
    print("begun", flush=True)  # noqa: T201
    if role == "move":
        asyncio.run(move(settings, worker, fingerprint, int(count)))
    files = JournalFiles(settings, worker)
    if role in ("own", "fork"):
        files.belong_to(JournalOwner(fingerprint, worker))
        write_journals(files, int(count))
    if role == "fork":
        child = os.fork()
        if not child:
            signal.alarm(CHILD_S)  # Should the test not come to its end.
            signal.pause()
        print("child", child, flush=True)  # noqa: T201
    print("done", len(files.read_all()), flush=True)  # noqa: T201
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
