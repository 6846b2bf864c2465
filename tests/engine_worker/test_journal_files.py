"""The journals' files: who holds them, what is left of a damaged one, and what is done when the disk fails."""

import errno
import os
import resource
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from engine_worker.config import Settings
from engine_worker.journal import MAGIC, framed
from engine_worker.journal_files import JournalFiles, JournalUnavailable
from engine_worker.mailbox import WriteJournal
from protocol.codec import encode_record
from protocol.records import Opened, Step

OPENED = Opened("resp_1", 1, b"{}")
BEGIN = MAGIC + framed(encode_record(OPENED))
STEP = framed(encode_record(Step((1,))))

Open = Callable[..., JournalFiles]


@pytest.fixture
def open_files(tmp_path: Path) -> Iterator[Open]:
    """Opens the journals of `worker-0`; a second time, as another process would."""
    opened: list[JournalFiles] = []

    def open_files(**settings: object) -> JournalFiles:
        settings = {"journal_volatile_dir": str(tmp_path / "volatile"), "journal_lock_wait_s": 0} | settings
        files = JournalFiles(Settings(run_dir=tmp_path, **settings), "worker-0")  # type: ignore[arg-type]
        opened.append(files)
        return files

    yield open_files
    for files in opened:
        files.close()


def write(files: JournalFiles, *entries: bytes, name: str = "resp_1", volatile: bool = False) -> None:
    for each in entries:
        files.write(WriteJournal(name, each, volatile, first=each.startswith(MAGIC), last=False))


def journals(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.journal"))


def test_what_was_written_is_read_back_by_the_next(open_files: Open) -> None:
    files = open_files()
    write(files, BEGIN, STEP + STEP)
    write(files, BEGIN, STEP, name="resp_2", volatile=True)
    files.close()
    durable, volatile = sorted(open_files().read_all(), key=lambda journal: journal.volatile)
    assert ([entry for entry, _ in durable.entries], durable.volatile) == ([OPENED, Step((1,)), Step((1,))], False)
    assert ([entry for entry, _ in volatile.entries], volatile.volatile) == ([OPENED, Step((1,))], True)


def test_one_process_holds_them_and_nobody_else(open_files: Open) -> None:
    first = open_files()
    with pytest.raises(JournalUnavailable, match="another process holds"):
        open_files()
    first.close()
    open_files()


def test_directories_and_files_are_private(open_files: Open, tmp_path: Path) -> None:
    write(open_files(), BEGIN)
    [path] = journals(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_directory_that_others_can_read_is_refused(open_files: Open, tmp_path: Path) -> None:
    (tmp_path / "volatile").mkdir()
    (tmp_path / "volatile" / "worker-0").mkdir()
    (tmp_path / "volatile").chmod(0o755)
    with pytest.raises(JournalUnavailable, match="must be yours alone"):
        open_files()


def test_a_torn_tail_is_cut_off_and_told(open_files: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = open_files()
    write(files, BEGIN, STEP[:-1])
    files.close()
    files = open_files()
    [journal] = files.read_all()
    [path] = journals(tmp_path)
    assert path.stat().st_size == journal.size == len(BEGIN)
    assert f"cut {len(STEP) - 1} bytes" in caplog.text
    write(files, STEP)
    files.close()
    assert [len(journal.entries) for journal in open_files().read_all()] == [2]


@pytest.mark.parametrize("content", [b"", MAGIC[:5], MAGIC, BEGIN[:-1]], ids=["empty", "cut", "no entry", "torn"])
def test_a_file_with_nothing_whole_in_it_goes(open_files: Open, tmp_path: Path, content: bytes) -> None:
    files = open_files()
    (tmp_path / "journal" / "worker-0" / "resp_1.journal").write_bytes(content)
    assert files.read_all() == ()
    assert journals(tmp_path) == []


def test_a_foreign_file_is_left_alone(open_files: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = open_files()
    (tmp_path / "journal" / "worker-0" / "resp_1.journal").write_bytes(b"holdfast journal 99\n...")
    assert files.read_all() == ()
    assert len(journals(tmp_path)) == 1
    assert "no journal of this version" in caplog.text


def test_a_new_journal_takes_the_place_of_an_old_file(open_files: Open, tmp_path: Path) -> None:
    write(open_files(), BEGIN, STEP, BEGIN)
    [path] = journals(tmp_path)
    assert path.read_bytes()[-len(BEGIN) :] == BEGIN


def test_a_name_stays_within_the_directory(open_files: Open, tmp_path: Path) -> None:
    write(open_files(), BEGIN, name="../../up/..")
    [path] = journals(tmp_path)
    assert path.parent == tmp_path / "journal" / "worker-0"


def test_only_so_many_files_are_held_open(open_files: Open) -> None:
    before = len(os.listdir("/proc/self/fd"))
    files = open_files(journal_files_max=3)
    for number in range(20):
        write(files, BEGIN, name=f"r{number}")
    for number in range(20):
        write(files, STEP, name=f"r{number}")
        assert len(os.listdir("/proc/self/fd")) <= before + 1 + 3
    assert "3 open" in repr(files)
    assert all(len(journal.entries) == 2 for journal in files.read_all())


def test_those_held_open_stay_open_however_many_more_are_written(
    open_files: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = open_files(journal_files_max=15)
    for number in range(20):
        write(files, BEGIN, name=f"r{number}")
    opening = Mock(wraps=os.open)
    monkeypatch.setattr(os, "open", opening)
    for _ in range(10):
        for number in range(20):
            write(files, STEP, name=f"r{number}")
    assert opening.call_count == 10 * 5


def test_a_low_limit_of_open_files_is_raised_as_far_as_it_goes(
    open_files: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [(256, 258)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.append(wanted))
    files = open_files(journal_files_max=100)
    for number in range(5):
        write(files, BEGIN, name=f"r{number}")
    assert "2 open" in repr(files)
    assert limits == [(256, 258), (258, 258)]


def test_no_file_is_held_for_what_is_closed_or_gone(open_files: Open) -> None:
    files = open_files()
    files.write(WriteJournal("closed", BEGIN, False, first=True, last=True))
    write(files, BEGIN, name="gone")
    files.unlink("gone", volatile=False)
    files.unlink("gone", volatile=False)
    assert "0 open" in repr(files)


def test_a_failed_write_leaves_no_journal_that_tells_too_little(
    open_files: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = open_files()
    write(files, BEGIN)
    real_write = os.write

    def full(file: int, data: bytes) -> int:
        if len(data) < len(STEP):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real_write(file, data[:4])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            write(files, STEP)
    assert journals(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        write(files, STEP)
    assert journals(tmp_path) == []
    assert "0 open" in repr(files)


def test_every_write_waits_for_the_disk_if_told_to(open_files: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    monkeypatch.setattr(os, "fsync", synced.append)
    write(open_files(journal_sync="always"), BEGIN, STEP, STEP)
    assert len(synced) == 3 + 1, "each write, and once the directory"


def test_the_directory_in_memory_is_made_when_it_is_needed_and_goes_when_empty(
    open_files: Open, tmp_path: Path
) -> None:
    files = open_files()
    assert not (tmp_path / "volatile").exists()
    write(files, BEGIN, volatile=True)
    assert len(journals(tmp_path / "volatile")) == 1
    files.unlink("resp_1", volatile=True)
    files.close()
    assert not (tmp_path / "volatile").exists()
