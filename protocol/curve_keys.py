"""`python -m protocol.curve_keys`: make the keys with which frontends reach workers over TCP, and say who may.

python -m protocol.curve_keys worker               once a deployment; prints the public key, which is in worker.pub
python -m protocol.curve_keys frontend             on each host of frontends, beside worker.pub; prints its public key
python -m protocol.curve_keys authorize web1 KEY   on the hosts of workers
python -m protocol.curve_keys revoke web1          holds within a second
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from protocol.curve import new_secret, public_of
from protocol.curve_files import (
    AUTHORIZED,
    FRONTEND_SECRET,
    WORKER_PUBLIC,
    WORKER_SECRET,
    BadCurveKeys,
    parse_authorized,
    read_authorized,
)
from protocol.private_dir import NotPrivate, make_private

DEFAULT_DIR: Final = Path(".holdfast/curve")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an exit code of 2 means that it, or a file, is wrong."""
    options = _parser().parse_args(arguments)
    try:
        make_private(options.curve_dir, "directory of keys")
        sys.stdout.write(_COMMANDS[options.command](options))
    except (BadCurveKeys, NotPrivate, OSError) as error:
        sys.stderr.write(f"protocol.curve_keys: {error}\n")
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m protocol.curve_keys",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    directory = Path(os.environ.get("HOLDFAST_CURVE_DIR", DEFAULT_DIR))
    parser.add_argument("--curve-dir", type=Path, default=directory, help="(default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("worker", help="make the workers' key pair")
    commands.add_parser("frontend", help="make this host's key pair for its frontends")
    authorize = commands.add_parser("authorize", help="have workers let a host of frontends in")
    authorize.add_argument("name", help="1 to 64 letters, digits, dots, dashes and underscores")
    authorize.add_argument("key", help="its public key")
    revoke = commands.add_parser("revoke", help="have workers let it in no more")
    revoke.add_argument("name")
    return parser


def _worker(options: argparse.Namespace) -> str:
    public = _make_secret(options.curve_dir / WORKER_SECRET)
    (options.curve_dir / WORKER_PUBLIC).write_text(public)
    return public


def _frontend(options: argparse.Namespace) -> str:
    return _make_secret(options.curve_dir / FRONTEND_SECRET)


def _make_secret(path: Path) -> str:
    """Write a new secret key that only we can read; returns the public one, as a line."""
    secret = new_secret()
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{secret.hex()}\n")
    except FileExistsError:
        raise BadCurveKeys(f"there is a key {path} already; remove it to make another") from None
    return f"{public_of(secret).hex()}\n"


def _authorize(options: argparse.Namespace) -> str:
    path = options.curve_dir / AUTHORIZED
    if options.name in read_authorized(path).values():
        raise BadCurveKeys(f"{path} has a key named '{options.name}' already")
    lines = path.read_text().splitlines() if path.exists() else []
    _replace(path, [*lines, f"{options.name} {options.key}"])
    return ""


def _revoke(options: argparse.Namespace) -> str:
    path = options.curve_dir / AUTHORIZED
    if options.name not in read_authorized(path).values():
        raise BadCurveKeys(f"{path} has no key named '{options.name}'")
    _replace(path, [line for line in path.read_text().splitlines() if line.split()[:1] != [options.name]])
    return ""


def _replace(path: Path, lines: list[str]) -> None:
    """Write the file whole or not at all; one that workers could not read is not written. Raises `BadCurveKeys`."""
    text = "".join(f"{line}\n" for line in lines)
    parse_authorized(text, path)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as fresh:
        try:
            fresh.write(text)
            fresh.flush()
            os.replace(fresh.name, path)
        except OSError:
            os.unlink(fresh.name)
            raise


_COMMANDS: Final = {"worker": _worker, "frontend": _frontend, "authorize": _authorize, "revoke": _revoke}

if __name__ == "__main__":
    main()
