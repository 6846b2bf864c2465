"""`python -m frontend.keys`: make, list and revoke API keys. Frontends that run notice within a second."""

import argparse
import base64
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from frontend.config import Settings
from frontend.tenants.gate import keys_path
from frontend.tenants.key_file import BadKeyFile, Key, digest, edited_keys, read_keys
from frontend.tenants.limits import KeyLimits
from frontend.webhook_endpoints import webhook_endpoint
from protocol.settings import read_settings

_SECRET_BYTES: Final = 32
_ROW: Final = "{:24} {:24} {:>12} {:>12} {:>12}  {}\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; an exit code of 2 means that it, the settings, or the keys file are wrong."""
    try:
        settings, _ = read_settings(Settings, [])  # from `HOLDFAST_*`, as the frontends'
        options = _parser(settings).parse_args(arguments)
        sys.stdout.write(_COMMANDS[options.command](options))
    except (BadKeyFile, ValueError) as error:  # `BadSetting` and msgspec's `ValidationError` are ValueErrors
        sys.stderr.write(f"frontend.keys: {error}\n")
        sys.exit(2)


def _parser(settings: Settings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m frontend.keys", description=__doc__, allow_abbrev=False)
    parser.add_argument("--keys-file", type=Path, default=keys_path(settings), help="(default: %(default)s)")
    parser.add_argument("--keys-max", type=int, default=settings.keys_max, help="(default: %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key, and print its secret (then its webhook's, if it has one)")
    create.add_argument("name", help="1 to 64 letters, digits, dots, dashes and underscores")
    create.add_argument("--tenant", help="whose responses it makes and sees (default: the key's name)")
    for limit, what in (
        ("requests-per-minute", "creates within any 60 seconds"),
        ("tokens-per-minute", "input and output tokens within any 60 seconds"),
        ("streams", "answers in progress at once"),
    ):
        create.add_argument(f"--{limit}", type=int, metavar="N", help=f"{what} (default: no limit)")
    create.add_argument("--webhook-url", help="where to post how background responses of the tenant ended")
    create.add_argument("--webhook-events", default="", help="which events, separated by commas (default: all)")
    commands.add_parser("list", help="show all keys and their limits; their secrets are not known")
    revoke = commands.add_parser("revoke", help="let a key in no more; what was begun with it ends as it would")
    revoke.add_argument("name")
    return parser


def _create(options: argparse.Namespace) -> str:
    secret = "sk-" + secrets.token_urlsafe(_SECRET_BYTES)
    webhook_secret = "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    webhook = webhook_endpoint(options.webhook_url or "", webhook_secret, options.webhook_events)
    limits = {name: getattr(options, name) for name in KeyLimits.__struct_fields__}
    fields = {
        "name": options.name,
        "tenant": options.tenant or options.name,
        "sha256": digest(secret),
        "created_at": int(time.time()),
        "limits": {name: limit for name, limit in limits.items() if limit is not None},
    }
    key = msgspec.structs.replace(msgspec.convert(fields, Key), webhook=webhook)
    with edited_keys(options.keys_file, options.keys_max) as keys:
        if any(other.name == key.name for other in keys):
            raise BadKeyFile(f"there is a key named '{key.name}' already")
        if len(keys) >= options.keys_max:
            raise BadKeyFile(f"there are {len(keys)} keys already (--keys-max)")
        keys.append(key)
    return "".join(f"{line}\n" for line in (secret, *(webhook.secrets if webhook else ())))


def _list(options: argparse.Namespace) -> str:
    try:
        keys = read_keys(options.keys_file, options.keys_max)
    except FileNotFoundError:
        keys = []
    rows = [_ROW.format("NAME", "TENANT", "REQUESTS/MIN", "TOKENS/MIN", "STREAMS", "CREATED")]
    for key in keys:
        limits = ["-" if limit is None else str(limit) for limit in msgspec.structs.astuple(key.limits)]
        created = time.strftime("%Y-%m-%d %H:%M", time.localtime(key.created_at))
        rows.append(_ROW.format(key.name, key.tenant, *limits, created))
    return "".join(rows)


def _revoke(options: argparse.Namespace) -> str:
    with edited_keys(options.keys_file, options.keys_max) as keys:
        left = [key for key in keys if key.name != options.name]
        if len(left) == len(keys):
            raise BadKeyFile(f"there is no key named '{options.name}'")
        keys[:] = left
    return ""


_COMMANDS: Final = {"create": _create, "list": _list, "revoke": _revoke}

if __name__ == "__main__":
    main()
