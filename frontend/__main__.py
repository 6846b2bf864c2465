"""`python -m frontend`: read the settings, once, prepare the store, and serve."""

import logging
import sys

from frontend.arbiter import serve
from frontend.config import Settings
from frontend.resolving import curve_keys
from frontend.store.connecting import BadStoreUrl
from frontend.store.errors import StoreUnavailable
from frontend.store.schema import prepare
from frontend.tenants.gate import why_not_serve
from protocol.curve_files import BadCurveKeys
from protocol.private_dir import NotPrivate
from protocol.settings import BadSetting, read_settings

logger = logging.getLogger(__name__)


def main() -> None:
    """Serve until stopped; an exit code of 2 means that the settings are wrong, 1 that we can't listen or store."""
    try:
        settings, rest = read_settings(Settings, sys.argv[1:])
    except BadSetting as error:
        sys.exit(_complain(str(error), 2))
    if rest:
        sys.exit(_complain(f"unknown arguments: {' '.join(rest)} (try --help)", 2))
    try:
        curve_keys(settings)
    except BadCurveKeys as error:
        sys.exit(_complain(str(error), 2))
    if problem := why_not_serve(settings):
        sys.exit(_complain(problem, 2))
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s"
    )
    _prepare_store(settings)
    try:
        serve(settings)
    except OSError as error:
        sys.exit(_complain(f"can't listen on {settings.host}:{settings.port}: {error}", 1))


def _prepare_store(settings: Settings) -> None:
    """Without a database that answers there is still much to serve: live responses, and those that aren't stored."""
    try:
        prepare(settings)
    except BadStoreUrl as error:
        sys.exit(_complain(f"--store (HOLDFAST_STORE) can't be used: {error}", 2))
    except NotPrivate as error:
        sys.exit(_complain(str(error), 1))
    except StoreUnavailable as error:
        logger.warning("the store does not answer, nothing is stored until it does: %s", error)


def _complain(message: str, code: int) -> int:
    sys.stderr.write(f"frontend: {message}\n")
    return code


if __name__ == "__main__":
    main()
