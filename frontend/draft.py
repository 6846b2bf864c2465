"""A response that is to be made, before any worker knows of it."""

import msgspec

from protocol.commands import Open
from protocol.records import Dialect


class Draft(msgspec.Struct, frozen=True):
    """A response to be made: `request` is the accepted create body (`frontend.api.request.Accepted.wire`).

    `prompt_tokens` is an estimate; `accepted` as in `Open`.
    """

    response_id: str
    model: str
    request: bytes
    dialect: Dialect
    obfuscate: bool
    tenant: str = ""
    key: str = ""
    background: bool = False
    history_items: int = 0
    asked: bytes = b""
    prompt_tokens: int = 0
    accepted: bool = False

    def command(self, reader: int, created_at: int) -> Open:
        """What has a worker make it, for this reader; `created_at` is in whole Unix seconds."""
        return Open(
            reader,
            self.response_id,
            created_at,
            self.request,
            self.dialect,
            self.obfuscate,
            tenant=self.tenant,
            background=self.background,
            history_items=self.history_items,
            key=self.key,
            asked=self.asked,
            prompt_tokens=self.prompt_tokens,
            accepted=self.accepted,
        )
