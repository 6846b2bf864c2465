"""Taking over with real locks, across processes that are killed."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from engine_worker import takeover as takeover_module
from engine_worker.config import Settings
from engine_worker.journal_dirs import JournalDirs, JournalFile, JournalOwner
from engine_worker.journal_files import JournalFiles
from engine_worker.locks import FileLock
from engine_worker.takeover import Takeover
from tests.engine_worker.journal_owner import settings_of, write_journals
from tests.engine_worker.remote import until
from tests.pace import DEADLINE_S

OWN, OTHER, THIRD = "worker-0", "worker-1", "worker-2"
MODEL = "fingerprint of the model"


class Process:
    """A process that holds, or wants, a worker's journals; see `journal_owner`."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "tests.engine_worker.journal_owner", *map(str, arguments)]
        self.popen = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.said() == "begun"

    def said(self) -> str:
        """Its next line; empty when it has ended."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().strip()

    def has_open(self, path: Path) -> bool:
        folder = Path(f"/proc/{self.popen.pid}/fd")
        return any(link.exists() and link.resolve() == path.resolve() for link in folder.iterdir())

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes over one run directory: `start(role, worker, ...)`."""
    processes: list[Process] = []

    def start(role: str, worker: str, *arguments: object) -> Process:
        processes.append(Process(role, tmp_path, worker, *arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        assert process.popen.stdout is not None
        process.popen.stdout.close()


class Heir:
    """A ready worker, as far as journals go: what it took in, from whom."""

    def __init__(self, settings: Settings, worker: str, fingerprint: str = MODEL) -> None:
        self.files = JournalFiles(settings, worker)
        self.files.belong_to(JournalOwner(fingerprint, worker))
        self.taken: dict[str, list[str]] = {}
        self.dead: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.takeover = Takeover(settings, worker, fingerprint, self._take_in)

    def has(self, worker: str) -> list[str]:
        """Ids of the responses that came from this worker."""
        return sorted(self.taken.get(worker, ()))

    @property
    def watches(self) -> bool:
        return "[]" not in repr(self.takeover)

    def close(self) -> None:
        self.takeover.close()
        self.files.close()

    def _take_in(self, worker: str, files: list[JournalFile], dead: str) -> None:
        if dead:
            assert not files
            self.dead.append(dead)
        moved = [file.journal.opened for file in files if self.files.move_in(file)]
        self.taken.setdefault(worker, []).extend(opened.response_id for opened in moved if opened is not None)
        self.meanwhile()


@pytest.fixture
async def heirs(tmp_path: Path) -> AsyncIterator[Callable[..., Heir]]:
    made: list[Heir] = []

    def heir(worker: str = OWN, fingerprint: str = MODEL) -> Heir:
        made.append(Heir(settings_of(tmp_path), worker, fingerprint))
        return made[-1]

    yield heir
    for each in made:
        each.close()


def ids(count: int) -> list[str]:
    return [f"resp_{number}" for number in range(count)]


def names_in(run_dir: Path, worker: str) -> list[str]:
    return sorted(path.stem for path in run_dir.rglob(f"{worker}/*.journal"))


async def test_what_a_worker_holds_is_nobody_elses_until_it_is_dead(
    tmp_path: Path, start: Start, heirs: Callable[..., Heir]
) -> None:
    owner = start("own", OTHER, MODEL, 5)
    assert owner.said() == "done 5"
    heir = heirs()
    await heir.takeover.sweep()
    heir.takeover.look()
    heir.takeover.look()
    assert heir.watches
    assert (heir.has(OTHER), names_in(tmp_path, OTHER)) == ([], ids(5))
    owner.kill()
    await until(lambda: not heir.watches)
    assert heir.has(OTHER) == names_in(tmp_path, OWN) == ids(5)
    assert heir.dead == [OTHER]
    assert names_in(tmp_path, OTHER) == []
    assert not (tmp_path / "volatile" / OTHER).exists()


async def test_a_free_lock_is_not_taken_again_until_its_owner_is_back(
    tmp_path: Path, start: Start, heirs: Callable[..., Heir]
) -> None:
    owner = start("own", OTHER, MODEL, 1)
    assert owner.said() == "done 1"
    heir = heirs()
    await heir.takeover.sweep()
    heir.takeover.look()
    owner.kill()
    await until(lambda: not heir.watches)
    for _ in range(3):
        heir.takeover.look()
        assert not heir.watches
    owner = start("own", OTHER, MODEL, 2)
    assert owner.said() == "done 2"
    heir.takeover.look()
    assert heir.watches
    owner.kill()
    await until(lambda: not heir.watches)
    # The first of its names is here since the first death, so that file is left where it is.
    assert heir.has(OTHER) == ["resp_0", "resp_1"]
    assert names_in(tmp_path, OTHER) == ["resp_0"]


async def test_a_sweep_takes_what_lies_free_and_waits_for_nobody(
    tmp_path: Path, start: Start, heirs: Callable[..., Heir]
) -> None:
    alive, dead = start("own", OTHER, MODEL, 2), start("own", THIRD, MODEL, 3)
    assert (alive.said(), dead.said()) == ("done 2", "done 3")
    dead.kill()
    heir = heirs()
    await heir.takeover.sweep()
    assert (heir.has(OTHER), heir.has(THIRD)) == ([], ids(3))
    assert names_in(tmp_path, OTHER) == ids(2)


async def test_journals_of_another_model_are_left_and_told_once(
    tmp_path: Path, start: Start, heirs: Callable[..., Heir], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    owner = start("own", OTHER, "another model", 2)
    assert owner.said() == "done 2"
    owner.kill()
    heir, its_like = heirs(), heirs(THIRD, "another model")
    await heir.takeover.sweep()
    for _ in range(3):
        heir.takeover.look()
        assert not heir.watches
    assert caplog.text.count(f"the journals of {OTHER} are left to workers of its model: another model") == 1
    assert names_in(tmp_path, OTHER) == ids(2)
    await its_like.takeover.sweep()
    assert its_like.has(OTHER) == ids(2)


async def test_a_worker_that_comes_back_with_another_model_is_not_taken_over_by_who_waited_for_the_old_one(
    tmp_path: Path, heirs: Callable[..., Heir]
) -> None:
    heir, other = heirs(), heirs(OTHER)
    await heir.takeover.sweep()
    heir.takeover.look()
    other.files.belong_to(JournalOwner("another model", OTHER))
    write_journals(other.files, 2)
    other.close()
    await until(lambda: not heir.watches)
    assert heir.taken == {}
    assert names_in(tmp_path, OTHER) == ids(2)
    assert JournalDirs(settings_of(tmp_path), OTHER).lock.read_text() == f"another model\n{OTHER}"


@pytest.mark.parametrize("moved", range(7))
async def test_whoever_dies_while_it_moves_files_each_is_with_one_worker_and_goes_on(
    tmp_path: Path, start: Start, heirs: Callable[..., Heir], moved: int
) -> None:
    owner = start("own", OTHER, MODEL, 7)
    assert owner.said() == "done 7"
    owner.kill()
    mover = start("move", THIRD, MODEL, moved)
    assert mover.said() == "", "it ends in the midst of it"
    mover.kill()
    left, taken = names_in(tmp_path, OTHER), names_in(tmp_path, THIRD)
    assert (len(taken), sorted(left + taken)) == (moved, ids(7))
    heir = heirs()
    await heir.takeover.sweep()
    assert (heir.has(OTHER), heir.has(THIRD)) == (left, taken)
    assert names_in(tmp_path, OWN) == ids(7)


async def test_an_owner_that_comes_back_waits_for_whoever_is_moving_its_files(
    tmp_path: Path, start: Start, heirs: Callable[..., Heir], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = start("own", OTHER, MODEL, 5)
    assert owner.said() == "done 5"
    owner.kill()
    monkeypatch.setattr(takeover_module, "PORTION_FILES_MAX", 1)
    heir = heirs()
    back: list[Process] = []

    def meanwhile() -> None:
        if not back:
            back.append(start("return", OTHER))
            while not back[0].has_open(tmp_path / "journal" / OTHER / "lock"):
                assert back[0].popen.poll() is None

    heir.meanwhile = meanwhile
    await heir.takeover.sweep()
    assert heir.has(OTHER) == ids(5)
    assert await asyncio.to_thread(back[0].said) == "done 0"


async def test_what_a_worker_that_drains_was_waiting_for_goes_to_the_next(
    start: Start, heirs: Callable[..., Heir]
) -> None:
    owner = start("own", OTHER, MODEL, 3)
    assert owner.said() == "done 3"
    draining, ready = heirs(), heirs(THIRD)
    for heir in (draining, ready):
        await heir.takeover.sweep()
        heir.takeover.look()
    draining.takeover.close()
    owner.kill()
    await until(lambda: ready.has(OTHER) == ids(3))
    assert draining.taken == {}


async def test_a_worker_that_stops_while_it_takes_over_leaves_the_rest(
    start: Start, heirs: Callable[..., Heir], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = start("own", OTHER, MODEL, 5)
    assert owner.said() == "done 5"
    owner.kill()
    monkeypatch.setattr(takeover_module, "PORTION_FILES_MAX", 2)
    stopping = heirs()
    stopping.meanwhile = stopping.takeover.close
    await stopping.takeover.sweep()
    stopping.files.close()
    assert len(stopping.has(OTHER)) == 2
    heir = heirs(THIRD)
    await heir.takeover.sweep()
    assert sorted(heir.has(OTHER) + heir.has(OWN)) == ids(5)


async def test_a_file_that_can_not_be_moved_is_left_and_told(
    tmp_path: Path, start: Start, heirs: Callable[..., Heir], caplog: pytest.LogCaptureFixture
) -> None:
    owner = start("own", OTHER, MODEL, 3)
    assert owner.said() == "done 3"
    owner.kill()
    (tmp_path / "journal" / OTHER / "foreign.journal").write_bytes(b"this is no journal")
    heir = heirs()
    write_journals(heir.files, 1)
    await heir.takeover.sweep()
    assert heir.has(OTHER) == ["resp_1", "resp_2"]
    assert names_in(tmp_path, OTHER) == ["foreign", "resp_0"]
    assert "is no journal of this version" in caplog.text
    assert "resp_0.journal is left alone" in caplog.text
    assert heir.dead == []  # for that says that nothing of it is left


async def test_a_lock_that_fails_is_tried_again_later(
    start: Start, heirs: Callable[..., Heir], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover_module, "_AFTER_FAILURE_S", 0.01)
    owner = start("own", OTHER, MODEL, 1)
    assert owner.said() == "done 1"
    heir = heirs()
    await heir.takeover.sweep()
    owner.kill()
    with monkeypatch.context() as patch:
        patch.setattr(FileLock, "take", lambda _: (_ for _ in ()).throw(OSError("no locks available")))
        heir.takeover.look()
        await until(lambda: not heir.watches)
    assert heir.taken == {}
    heir.takeover.look()
    await until(lambda: heir.has(OTHER) == ids(1))


def test_a_child_does_not_keep_the_lock_of_a_parent_that_is_dead(tmp_path: Path, start: Start) -> None:
    owner = start("fork", OTHER, MODEL, 1)
    word, child = owner.said().split()
    assert word == "child"
    try:
        lock = FileLock(JournalDirs(settings_of(tmp_path), OTHER).lock)
        assert not lock.try_take()
        owner.kill()
        assert lock.take_within(DEADLINE_S), "the child has closed it, or is about to"
        assert Path(f"/proc/{child}").exists()
        lock.close()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(child), 9)


def test_a_shorter_content_takes_the_place_of_a_longer_one(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "lock")
    for content in ("a long fingerprint", "short", ""):
        lock.write(content)
        assert lock.content == content
    lock.close()
    lock.close()
