"""`python -m engine_worker`: reads the settings, claims a slot in the run directory, and supervises a worker in it."""

import logging
import sys

from engine_worker.config import Settings
from engine_worker.diagnostics import log_to_stderr
from engine_worker.listening import listening
from engine_worker.slot import NoSlot, Slot
from engine_worker.supervisor import Supervisor
from protocol.curve_files import BadCurveKeys
from protocol.settings import BadSetting, read_settings

EXIT_BAD_SETTING = 2


def main() -> int:
    """Run one engine worker; returns the process's exit code."""
    try:
        settings, rest = read_settings(Settings, sys.argv[1:])
        slot = Slot.claim(settings.run_dir, settings.workers_max)
        listening(settings, slot.name)
    except (BadSetting, NoSlot, BadCurveKeys, ValueError) as error:
        log_to_stderr("engine_worker", lines_max=1)
        logging.getLogger("engine_worker").error("%s", error)
        return EXIT_BAD_SETTING
    log_to_stderr(slot.name, settings.log_lines_max)
    return Supervisor(settings, slot, rest).run()


if __name__ == "__main__":
    sys.exit(main())
