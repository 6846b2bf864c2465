"""What processes count, each in its file, and what becomes of it when they die."""

import fcntl
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import pytest

from frontend.metrics.catalogue import EVENT_GAP, REQUESTS, STREAMS
from frontend.metrics.counting import Metrics
from frontend.metrics.exposition import exposed
from frontend.metrics.files import SheetFiles
from frontend.metrics.sheet import SHEET_BYTES, Sheet, Sums, Unreadable, read_sheet, total

CREATED = ("POST", "/v1/responses", "200")
KEPT = {"total", "folding"}
"""Files that are no process's."""


@pytest.fixture
def observer(tmp_path: Path) -> Iterator[SheetFiles]:
    """A process that counts nothing itself."""
    files = SheetFiles(tmp_path)
    yield files
    files.close()


def requests(sums: Sums) -> float:
    return sum(sums.get((REQUESTS.name, CREATED), [0.0]))


def sheets_in(directory: Path) -> int:
    return len({path.name for path in directory.iterdir()} - KEPT)


def count(directory: Path, times: int) -> SheetFiles:
    """A process that has counted so many requests, with as many streams open and a gap of 0.03 s for each."""
    files = SheetFiles(directory)
    for _ in range(times):
        files.sheet.count(REQUESTS, *CREATED).add()
        files.sheet.count(STREAMS).add()
        files.sheet.distribution(EVENT_GAP, "demo").observe(0.03)
    return files


# ---- one sheet -------------------------------------------------------------------------------------------------------


def test_a_sheet_says_what_was_counted_on_it_while_it_is_written() -> None:
    memory = memoryview(bytearray(SHEET_BYTES))
    sheet = Sheet(memory)
    sheet.count(REQUESTS, *CREATED).add(2)
    sheet.count(STREAMS).put(7)
    for gap in (0.0, 0.001, 0.0011, 99.0):
        sheet.distribution(EVENT_GAP, "demo").observe(gap)
    counts = [2.0, 1.0] + [0.0] * (len(EVENT_GAP.bounds) - 2) + [1.0]
    found = read_sheet(bytes(memory), living=True)
    assert found == {
        (REQUESTS.name, CREATED): [2.0],
        (STREAMS.name, ()): [7.0],
        (EVENT_GAP.name, ("demo",)): [*counts, pytest.approx(99.0021, abs=1e-5)],
    }
    sheet.count(REQUESTS, *CREATED).add()
    assert requests(read_sheet(bytes(memory), living=False)) == 3
    assert (STREAMS.name, ()) not in read_sheet(bytes(memory), living=False)


def test_a_series_that_finds_no_room_is_left_out_and_harms_no_other() -> None:
    memory = memoryview(bytearray(SHEET_BYTES))
    sheet = Sheet(memory)
    for number in range(2000):
        sheet.distribution(EVENT_GAP, f"model {number}").observe(0.01)
    sheet.count(REQUESTS, *CREATED).add()
    sums = read_sheet(bytes(memory), living=True)
    assert sheet.left_out
    assert len(sums) == 2001 - sheet.left_out
    assert all(sum(values[:-1]) == 1 for (name, _), values in sums.items() if name == EVENT_GAP.name)


@pytest.mark.parametrize("data", [b"", bytes(SHEET_BYTES), b"\1" * SHEET_BYTES, b"\1" * 10])
def test_what_is_no_sheet_is_not_read(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read_sheet(data, living=True)


def test_sums_of_versions_that_differ_in_their_buckets_are_not_mixed() -> None:
    series = (EVENT_GAP.name, ("demo",))
    assert total([{series: [1.0, 2.0]}, {series: [1.0]}, {series: [3.0, 4.0]}]) == {series: [4.0, 6.0]}
    body, _ = exposed({series: [1.0, 2.0], ("holdfast_of_another_version", ()): [1.0]}, [], "")
    assert b"demo" not in body
    assert b"another_version" not in body


def test_a_sum_is_the_same_in_whatever_order_it_is_made() -> None:
    parts: list[Sums] = []
    for number in range(1, 40):
        memory = memoryview(bytearray(SHEET_BYTES))
        Sheet(memory).distribution(EVENT_GAP, "demo").observe(0.1 / number)
        parts.append(read_sheet(bytes(memory), living=True))
    assert total(parts) == total(reversed(parts)) == total([total(parts[:7]), total(parts[7:])])


def test_what_is_gathered_is_counted_as_if_observed_one_by_one() -> None:
    chance = Random(1)
    gaps = [*EVENT_GAP.bounds, 0.0, 1e9, *(chance.lognormvariate(-4, 2) for _ in range(3000))]
    chance.shuffle(gaps)
    memories = [memoryview(bytearray(SHEET_BYTES)) for _ in range(2)]
    sheets = [Sheet(memory) for memory in memories]
    for gap in gaps:
        sheets[0].distribution(EVENT_GAP, "demo").observe(gap)
        sheets[1].distribution(EVENT_GAP, "demo").gather(gap)
    for sheet in sheets:
        sheet.settle()
        sheet.settle()
    (*counts, seconds), (*gathered, gathered_s) = (
        read_sheet(bytes(memory), living=True)[EVENT_GAP.name, ("demo",)] for memory in memories
    )
    assert gathered == counts
    assert gathered_s == pytest.approx(seconds, abs=1e-6 * len(gaps))


def test_what_is_gathered_does_not_pile_up() -> None:
    memory = memoryview(bytearray(SHEET_BYTES))
    gaps = Sheet(memory).distribution(EVENT_GAP, "demo")
    for _ in range(10_000):
        gaps.gather(0.03)
    assert sum(read_sheet(bytes(memory), living=True)[EVENT_GAP.name, ("demo",)][:-1]) >= 9_000


# ---- all of them -----------------------------------------------------------------------------------------------------


def test_counts_of_the_dead_are_kept_their_gauges_are_not_and_their_files_go(
    tmp_path: Path, observer: SheetFiles
) -> None:
    living, dead = count(tmp_path, 2), count(tmp_path, 3)
    before = observer.collect()
    dead.close()
    after = observer.collect()
    assert (requests(before), before[STREAMS.name, ()]) == (5, [5.0])
    assert (requests(after), after[STREAMS.name, ()]) == (5, [2.0])
    assert sum(after[EVENT_GAP.name, ("demo",)][:-1]) == 5
    assert sheets_in(tmp_path) == 2
    assert requests(observer.collect()) == requests(living.collect()) == 5
    living.close()
    assert requests(observer.collect()) == 5


def test_files_do_not_pile_up_where_nobody_asks(tmp_path: Path) -> None:
    for _ in range(50):
        count(tmp_path, 1).close()
        assert sheets_in(tmp_path) <= 2
    files = SheetFiles(tmp_path)
    assert requests(files.collect()) == 50
    files.close()


def test_a_process_that_is_killed_has_counted_all_it_did(tmp_path: Path, observer: SheetFiles) -> None:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_count_until_killed, args=(tmp_path, theirs))
    process.start()
    assert ours.recv() == "counted"
    assert process.pid is not None
    assert requests(observer.collect()) == 1000
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert requests(observer.collect()) == 1000
    assert sheets_in(tmp_path) == 1


def _count_until_killed(directory: Path, pipe: Connection) -> None:
    files = count(directory, 1000)
    pipe.send("counted")
    signal.pause()
    files.close()


def test_one_that_dies_between_adding_a_file_and_removing_it_counts_it_once(
    tmp_path: Path, observer: SheetFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = count(tmp_path, 4)
    dead.close()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError("killed here")))
        assert requests(observer.collect()) == 4
    assert sheets_in(tmp_path) == 2
    assert requests(observer.collect()) == 4
    assert sheets_in(tmp_path) == 1
    assert requests(observer.collect()) == 4


def test_who_adds_holds_up_nobody_who_reads(tmp_path: Path, observer: SheetFiles) -> None:
    count(tmp_path, 3).close()
    with (tmp_path / "folding").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # a process that was stopped
        assert requests(observer.collect()) == 3
        assert sheets_in(tmp_path) == 2
    assert requests(observer.collect()) == 3
    assert sheets_in(tmp_path) == 1


def test_whoever_reads_while_processes_die_and_are_added_sees_every_count_once(tmp_path: Path) -> None:
    files = SheetFiles(tmp_path)
    done = threading.Event()
    seen: list[float] = []

    def read() -> None:
        while not done.is_set():
            seen.append(requests(files.collect()))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(200):  # each start adds what the one before has left
        count(tmp_path, 5).close()
    done.set()
    reader.join()
    assert seen == sorted(seen)
    assert requests(files.collect()) == 1000
    files.close()


def test_where_no_file_can_be_made_a_process_counts_for_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "metrics").touch()  # no directory can be there
    files = count(tmp_path / "metrics", 2)
    assert "seen only where it answers itself" in caplog.text
    files.close()


def test_a_total_that_can_not_be_read_begins_anew(
    tmp_path: Path, observer: SheetFiles, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "total").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        count(tmp_path, 2).close()
        assert requests(observer.collect()) == 2
    assert "begins anew" in caplog.text


def test_what_is_counted_without_a_sheet_is_counted_nowhere() -> None:
    metrics = Metrics()
    metrics.store_failed()
    assert metrics.sheet.left_out == 0
