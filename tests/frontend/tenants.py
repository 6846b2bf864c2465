"""API keys for tests: made as the command line makes them, without its process."""

from pathlib import Path

from frontend.tenants.key_file import Key, digest, edited_keys
from frontend.tenants.limits import KeyLimits

KEYS_MAX = 1000


def make_key(run_dir: Path, name: str, tenant: str = "", **limits: int) -> dict[str, str]:
    """Make a key for the frontends of a test's run directory; returns the headers that show it."""
    secret = "sk-" + name
    with edited_keys(run_dir / "data" / "keys.json", KEYS_MAX) as keys:
        keys.append(Key(name, tenant or name, digest(secret), 0, KeyLimits(**limits)))
    return {"Authorization": "Bearer " + secret}
