"""The table of the API's operations: the routes and the OpenAPI document are both made from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from dashboard.api import answers, models

PREFIX = "/api/v1"


@dataclass(frozen=True, slots=True)
class Operation:
    """One GET: where, how it is asked, what comes back."""

    path: str
    answer: Callable[..., dict[str, Any]]
    path_model: type[models.Question]
    query: type[models.Question]
    response: type[BaseModel]
    media: tuple[str, ...] = ("application/json",)

    @property
    def exported(self) -> bool:
        """Whether it can also be had as a file."""
        return issubclass(self.query, models.HistoryQuery)


_DEVICE = "/stores/{store}/devices/{device}"

OPERATIONS = (
    Operation("/stores", answers.stores, models.Nothing, models.Nothing, models.Stores),
    Operation("/devices", answers.devices, models.Nothing, models.DevicesQuery, models.Devices),
    Operation(_DEVICE, answers.device, models.AtDevice, models.Nothing, models.Device),
    Operation(f"{_DEVICE}/slots", answers.slots, models.AtDevice, models.Nothing, models.Slots),
    Operation(
        "/stores/{store}/products", answers.products, models.InStore, models.ProductsQuery, models.Products
    ),
    Operation("/stores/{store}/days", answers.days, models.InStore, models.DaysQuery, models.StoreDays),
    Operation("/events", answers.events, models.Nothing, models.EventsQuery, models.Events),
    Operation(
        "/products/{product}/history", answers.history, models.OfProduct, models.HistoryQuery, models.Events
    ),
    Operation("/gaps", answers.gaps, models.Nothing, models.GapsQuery, models.Gaps),
    Operation(
        "/epcis",
        answers.epcis,
        models.Nothing,
        models.EpcisQuery,
        models.EpcisDocument,
        ("application/ld+json",),
    ),
)
