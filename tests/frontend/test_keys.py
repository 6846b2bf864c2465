"""The keys file: what the command line makes of it, and what a frontend that runs makes of its changes."""

import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.deployment import REPOSITORY
from frontend.keys import main
from frontend.tenants.key_file import BadKeyFile, KeyRing, edited_keys, read_keys
from tests.pace import DEADLINE_S


class Bench:
    """A keys file, its command line, and the ring of a frontend at a virtual time."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = directory / "private" / "keys.json"
        self.now = 100.0
        self._capsys = capsys

    def run(self, *arguments: str) -> str:
        """Run a command and return what it prints."""
        main(["--keys-file", str(self.path), *arguments])
        return self._capsys.readouterr().out.strip()

    def complaint(self, *arguments: str) -> str:
        """Run a command that fails."""
        with pytest.raises(SystemExit) as ended:
            self.run(*arguments)
        assert ended.value.code == 2
        return self._capsys.readouterr().err

    def ring(self, *, open_without: bool = False) -> KeyRing:
        return KeyRing(self.path, 10, lambda: self.now, open_without=open_without)


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, capsys)


# ---- the command line ------------------------------------------------------------------------------------------------


def test_create_prints_a_secret_of_256_bits_and_keeps_its_hash_only(bench: Bench) -> None:
    secret = bench.run("create", "alice", "--tenant", "acme", "--requests-per-minute", "60", "--streams", "4")
    assert secret.startswith("sk-")
    assert len(secret) == 3 + 43
    [key] = json.loads(bench.path.read_bytes())
    assert key.pop("created_at") > 1_700_000_000
    assert key == {
        "name": "alice",
        "tenant": "acme",
        "sha256": hashlib.sha256(secret.encode()).hexdigest(),
        "limits": {"requests_per_minute": 60, "streams": 4},
    }
    assert secret != bench.run("create", "bob")


def test_the_file_is_private_and_replaced_whole(bench: Bench) -> None:
    bench.run("create", "alice")
    before = bench.path.stat()
    assert before.st_mode & 0o777 == 0o600
    assert bench.path.parent.stat().st_mode & 0o777 == 0o700
    bench.run("create", "bob")
    assert bench.path.stat().st_ino != before.st_ino
    assert {path.name for path in bench.path.parent.iterdir()} == {"keys.json", ".keys.json.lock"}


def test_a_key_is_its_own_tenant_unless_it_is_given_one(bench: Bench) -> None:
    bench.run("create", "alice")
    assert [key.tenant for key in read_keys(bench.path, 10)] == ["alice"]


def test_list_shows_limits_and_no_secret(bench: Bench) -> None:
    assert len(bench.run("list").splitlines()) == 1
    secret = bench.run("create", "alice", "--tokens-per-minute", "5000")
    shown = bench.run("list")
    assert shown.splitlines()[1].split()[:5] == ["alice", "alice", "-", "5000", "-"]
    assert secret not in shown
    assert hashlib.sha256(secret.encode()).hexdigest() not in shown


def test_revoke_takes_one_key_out(bench: Bench) -> None:
    bench.run("create", "alice")
    bench.run("create", "bob")
    bench.run("revoke", "alice")
    assert [key.name for key in read_keys(bench.path, 10)] == ["bob"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("create alice", "alice"),
        ("create al/ice", "name"),
        ("create bob --tenant a\x00b", "tenant"),
        ("create bob --streams 0", "streams"),
        ("revoke bob", "bob"),
        ("--keys-max 1 create bob", "--keys-max"),
    ],
)
def test_what_can_not_be_done_is_named_and_changes_nothing(bench: Bench, arguments: str, named: str) -> None:
    bench.run("create", "alice")
    before = bench.path.read_bytes()
    assert named in bench.complaint(*arguments.split(" "))
    assert bench.path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "[", "{}", '[{"name": "alice"}]', "\xff"])
def test_a_file_that_is_none_is_left_alone(bench: Bench, text: str) -> None:
    bench.path.parent.mkdir()
    bench.path.write_bytes(text.encode("latin-1"))
    for command in ("create bob", "revoke bob", "list"):
        assert str(bench.path) in bench.complaint(*command.split())
    assert bench.path.read_bytes() == text.encode("latin-1")


def test_two_edits_at_once_both_take_place(tmp_path: Path) -> None:
    environment = {**os.environ, "HOLDFAST_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "frontend.keys", "create"]
    names = [f"key-{number}" for number in range(4)]
    running = [
        subprocess.Popen([*command, name], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE) for name in names
    ]
    secrets = [process.communicate(timeout=DEADLINE_S)[0].decode().strip() for process in running]
    keys = read_keys(tmp_path / "keys.json", 10)
    assert sorted(key.name for key in keys) == names
    assert {key.sha256 for key in keys} == {hashlib.sha256(secret.encode()).hexdigest() for secret in secrets}


def test_an_edit_that_fails_changes_nothing(bench: Bench) -> None:
    bench.run("create", "alice")
    with suppress(ZeroDivisionError), edited_keys(bench.path, 10) as keys:
        keys.clear()
        raise ZeroDivisionError
    assert len(read_keys(bench.path, 10)) == 1


# ---- a frontend that runs --------------------------------------------------------------------------------------------


def test_a_change_is_noticed_a_second_later_at_most(bench: Bench) -> None:
    alice = bench.run("create", "alice")
    ring = bench.ring()
    bob = bench.run("create", "bob")
    bench.now += 0.9
    ring.look()
    assert ring.find(bob) is None
    bench.now += 0.1
    ring.look()
    found = ring.find(bob)
    assert found is not None
    assert found.name == "bob"
    bench.run("revoke", "alice")
    bench.now += 1
    ring.look()
    assert ring.find(alice) is None
    assert ring.named("alice") is None


def test_without_a_file_keys_are_required_unless_it_may_be_open(bench: Bench) -> None:
    assert bench.ring().required
    ring = bench.ring(open_without=True)
    assert not ring.required
    bench.run("create", "alice")
    bench.now += 1
    ring.look()
    assert ring.required


def test_a_file_without_keys_lets_nobody_in(bench: Bench) -> None:
    bench.run("create", "alice")
    bench.run("revoke", "alice")
    assert bench.ring(open_without=True).required


def test_a_file_that_breaks_changes_nothing(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    alice = bench.run("create", "alice")
    ring = bench.ring()
    bench.path.write_text("[")
    for _ in range(3):
        bench.now += 1
        ring.look()
    assert ring.find(alice)
    assert ring.problem is None
    assert len(caplog.records) == 1  # and says so once
    never = bench.ring()
    assert never.required
    assert str(bench.path) in (never.problem or "")


def test_more_keys_than_the_setting_allows_are_no_file_of_keys(bench: Bench) -> None:
    for number in range(3):
        bench.run("create", f"key-{number}")
    with pytest.raises(BadKeyFile, match="--keys-max is 2"):
        read_keys(bench.path, 2)
