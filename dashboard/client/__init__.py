"""Stock events for programs of your own: `async for event in subscribe(...)`, at least once.

It needs no more than the kit's base installation. What is guaranteed is said in `Subscription`.
"""

from dashboard.client._subscription import Subscription, subscribe
from edge_agent.contracts.config import Tls
from edge_agent.contracts.errors import ConfigError, KitError, ServiceError, UsageError
from edge_agent.contracts.events import CameraData, DeviceData, Event, Kind, ProductData, SlotData

__all__ = [
    "CameraData",
    "ConfigError",
    "DeviceData",
    "Event",
    "Kind",
    "KitError",
    "ProductData",
    "ServiceError",
    "SlotData",
    "Subscription",
    "Tls",
    "UsageError",
    "subscribe",
]
