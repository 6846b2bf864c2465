"""Where the engine's processes have the sockets by which they find each other: killed, they leave them behind.

vLLM would put them into the directory for temporary files, three a start. Theirs is in there too, for a run directory's
path may be too long for them, but it is one a slot, always the same, and emptied: after each actor, and before the next
one, should this supervisor have been killed.
"""

import logging
import os
import shutil
import tempfile
from hashlib import blake2b
from pathlib import Path

from protocol.private_dir import NotPrivate, make_private

logger = logging.getLogger(__name__)

VARIABLE = "VLLM_RPC_BASE_PATH"
"""By which vLLM is told; what the user has set is left alone."""


class Scratch:
    """The directory of one worker's engine; only the slot's holder may use it."""

    def __init__(self, run_dir: Path, worker: str) -> None:
        digest = blake2b(os.fsencode(run_dir.absolute() / worker), digest_size=8).hexdigest()
        self.path = Path(tempfile.gettempdir()) / f"holdfast-{digest}"

    def renew(self) -> dict[str, str]:
        """Make it anew, empty; returns the variables for the actor, none where it can't be made."""
        self.remove()
        try:
            make_private(self.path, "directory for the engine's sockets")
        except NotPrivate as error:
            logger.warning("%s; killed engines leave theirs in %s", error, self.path.parent)
            return {}
        return {VARIABLE: str(self.path)}

    def remove(self) -> None:
        """Remove it with all that is in it, as far as it is ours."""
        shutil.rmtree(self.path, ignore_errors=True)
