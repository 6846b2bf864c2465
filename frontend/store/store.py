"""The store as others hold it: one part for each subject, over one database."""

from frontend.config import Settings
from frontend.metrics.counting import Metrics
from frontend.store.conversation_items import ConversationItems
from frontend.store.conversations import Conversations
from frontend.store.database import Database
from frontend.store.deliveries import Deliveries
from frontend.store.items import Items
from frontend.store.leases import Leases
from frontend.store.replay import Replay
from frontend.store.responses import Responses
from frontend.store.retention import Retention


class Store:
    """One process's store; made within its event loop, after the fork. It connects when it is first asked.

    `frontend.store.schema.prepare` must have run before, in any process.
    """

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        self._database = database = Database(settings, metrics or Metrics())
        self.responses = Responses(database)
        self.items = Items(database)
        self.conversations = Conversations(database)
        self.conversation_items = ConversationItems(database)
        self.replay = Replay(database)
        self.deliveries = Deliveries(database)
        self.leases = Leases(database)
        self.retention = Retention(database)

    async def check(self) -> None:
        """See that the database answers. Raises `StoreUnavailable`."""
        await self._database.check()

    async def close(self) -> None:
        """Let what is under way end, and close the connections."""
        await self._database.close()
