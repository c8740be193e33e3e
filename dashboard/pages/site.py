"""What all pages are made from."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from dashboard.accounts.gate import Access
from dashboard.accounts.records import StoreSetting
from dashboard.pages.live import Live
from dashboard.queries import Queries


@dataclass(frozen=True, slots=True)
class Site:
    """The parts of one web application.

    Args:
        queries: To the recorder's database.
        live: Streams of stores.
        access: Who is let in; also keeps the settings of stores.
        connected: Whether the broker is there.
    """

    queries: Queries
    live: Live
    access: Access
    connected: Callable[[], bool]

    def now(self) -> datetime:
        """Return the present moment."""
        return self.access.clock()

    def setting(self, store: str) -> StoreSetting:
        """Return how a store is called and which zone it is in."""
        return self.access.accounts.settings.of(store)
