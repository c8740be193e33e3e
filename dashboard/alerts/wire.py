"""An alert as programs get it, by webhook and on MQTT: CloudEvents 1.0, as all events are. Pure."""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from dashboard.alerts.causes import Kind
from edge_agent.contracts.events import Message, read
from edge_agent.contracts.times import Timestamp


class Notice(StrEnum):
    """What is told of an alert."""

    OPENED = "opened"
    REPEATED = "repeated"
    RESOLVED = "resolved"
    TEST = "test"

    @property
    def type(self) -> str:
        """Its type on the wire."""
        return f"shelfkit.alert.{self.value}.v1"


class AlertData(Message):
    """What is wrong, and since when; what is not known is left out."""

    alert: Annotated[str, Field(description="The same in all messages about one trouble.")]
    rule: Annotated[str, Field(description="Which rule of the shop found it.")]
    kind: Kind
    store: str
    device: str
    shelf: str | None = None
    subject: Annotated[str | None, Field(description="What of the shelf: `product/milk-1l`, `slot/A3`.")] = (
        None
    )
    label: str | None = None
    name: str | None = None
    gtin: str | None = None
    detail: Annotated[str | None, Field(description="Facings that are left, the fault, the reason.")] = None
    since: Annotated[Timestamp | None, Field(description="When it began.")] = None
    opened: Annotated[Timestamp | None, Field(description="When it had lasted long enough.")] = None
    closed: Annotated[Timestamp | None, Field(description="When it was over.")] = None


class AlertMessage(Message):
    """One message about an alert; `id` is the same however often it is sent."""

    specversion: Literal["1.0"] = "1.0"
    id: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(description="The device: `/stores/0417/devices/cam-12-01`.")]
    type: Annotated[str, Field(pattern=rf"^shelfkit\.alert\.({'|'.join(Notice)})\.v1$")]
    subject: str | None = None
    time: Annotated[Timestamp, Field(description="When it was decided to tell this.")]
    datacontenttype: Literal["application/json"] = "application/json"
    data: AlertData

    @property
    def notice(self) -> Notice:
        """What is told."""
        return Notice(self.type.split(".")[2])


def encode(item: Mapping[str, Any]) -> bytes:
    """Return an item of `telling` as it goes over the wire."""
    own = {"id", "notice", "time", "zone", "title"}
    shelf = f"shelf/{item['shelf']}/{item['subject']}".removesuffix("/") if item["shelf"] else ""
    value = {
        "specversion": "1.0",
        "id": item["id"],
        "source": f"/stores/{item['store']}/devices/{item['device']}",
        "type": Notice(item["notice"]).type,
        **({"subject": shelf} if shelf else {}),
        "time": item["time"],
        "datacontenttype": "application/json",
        "data": {name: value for name, value in item.items() if name not in own and value != ""},
    }
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def decode(payload: bytes) -> AlertMessage:
    """Read an alert from the wire.

    Raises:
        DataError: No JSON, not CloudEvents 1.0, a notice of another major version, or a bad field.
    """
    return read(AlertMessage, payload, "an alert of version 1")
