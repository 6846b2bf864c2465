"""The directory for the engine's sockets: one a slot, empty at each start, and nobody else's."""

from pathlib import Path

import pytest

from engine_worker.scratch import VARIABLE, Scratch


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of the directory for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_what_a_killed_worker_left_is_gone_when_the_next_one_starts_in_its_place() -> None:
    left = Path(Scratch(Path("/run/x"), "worker-0").renew()[VARIABLE]) / "socket"
    beside = Path(Scratch(Path("/run/x"), "worker-1").renew()[VARIABLE]) / "socket"
    for path in (left, beside):
        path.touch()
    found = Path(Scratch(Path("/run/x"), "worker-0").renew()[VARIABLE])
    assert (found, list(found.iterdir())) == (left.parent, [])
    assert beside.exists()
    assert found.stat().st_mode & 0o777 == 0o700


def test_it_goes_with_all_that_is_in_it(temporary: Path) -> None:
    scratch = Scratch(Path("/run/x"), "worker-0")
    (Path(scratch.renew()[VARIABLE]) / "socket").touch()
    scratch.remove()
    scratch.remove()
    assert list(temporary.iterdir()) == []


def test_one_that_is_not_ours_alone_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    scratch = Scratch(Path("/run/x"), "worker-0")
    scratch.path.touch()  # in its way, and no directory
    assert scratch.renew() == {}
    assert "killed engines leave theirs in" in caplog.text
