"""Slots in the run directory: one worker each, whatever became of those before."""

from pathlib import Path

import pytest

from engine_worker.process_group import Group
from engine_worker.slot import SOCKET_PATH_BYTES_MAX, NoSlot, Slot

GROUP = Group(leader=123, started=456, boot="b")


def test_each_worker_gets_the_first_free_slot(tmp_path: Path) -> None:
    first, second = Slot.claim(tmp_path, 4), Slot.claim(tmp_path, 4)
    assert (first.name, second.name) == ("worker-0", "worker-1")
    first.release()
    third = Slot.claim(tmp_path, 4)
    assert third.name == "worker-0"
    assert third.socket == tmp_path / "worker-0.worker.sock"
    second.release()
    third.release()


def test_a_full_directory_is_said_to_be_full(tmp_path: Path) -> None:
    slot = Slot.claim(tmp_path, 1)
    with pytest.raises(NoSlot, match="all 1 workers"):
        Slot.claim(tmp_path, 1)
    slot.release()


def test_the_directory_is_made_and_is_private(tmp_path: Path) -> None:
    run_dir = tmp_path / "a" / "b"
    Slot.claim(run_dir, 1).release()
    assert run_dir.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    run_dir = tmp_path / "open"
    run_dir.mkdir(mode=0o755)
    with pytest.raises(NoSlot, match="chmod 700"):
        Slot.claim(run_dir, 1)


def test_a_directory_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NoSlot, match="can't be made"):
        Slot.claim(tmp_path / "file" / "run", 1)


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    run_dir = tmp_path / ("x" * SOCKET_PATH_BYTES_MAX)
    with pytest.raises(NoSlot, match="longer than the 107 bytes"):
        Slot.claim(run_dir, 1)


def test_a_note_outlives_the_one_who_made_it(tmp_path: Path) -> None:
    killed = Slot.claim(tmp_path, 1)
    assert killed.group is None
    killed.note(GROUP)
    killed._unlock()
    successor = Slot.claim(tmp_path, 1)
    assert successor.group == GROUP
    successor.note(None)
    assert successor.group is None
    successor.release()


def test_a_torn_note_is_no_note(tmp_path: Path) -> None:
    (tmp_path / "worker-0.lock").write_text('{"leader":12')
    slot = Slot.claim(tmp_path, 1)
    assert slot.group is None
    slot.release()


def test_releasing_removes_the_socket(tmp_path: Path) -> None:
    slot = Slot.claim(tmp_path, 1)
    slot.socket.touch()
    slot.release()
    assert not slot.socket.exists()
