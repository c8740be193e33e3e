"""What a device sent, read: into a batch, or into quarantine with the reason. Pure.

An event needs its envelope to be recorded; of a kind that this version knows also the rest must be
what the contract says, because readers rely on it. A newer kind is kept as it is.
"""

import json
import re
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from dashboard.batch import Arrival, Batch, Place, Refusal
from edge_agent.contracts import events, messages
from edge_agent.contracts.errors import DataError
from edge_agent.contracts.identifiers import PLAIN
from edge_agent.contracts.messages import Availability, Health, State
from edge_agent.contracts.times import moment, rfc3339
from edge_agent.contracts.topics import DeviceTopics, parse
from edge_agent.contracts.validation import READER, explain, strict_json

LARGEST_EVENT_BYTES = 256 * 1024
_LARGEST_STATE_BYTES = 4 * 1024 * 1024
_MODELS: dict[str, type[events.Message]] = {
    "slot": events.SlotData,
    "product": events.ProductData,
    "camera": events.CameraData,
    "device": events.DeviceData,
}
_KINDS = {kind.type: kind for kind in events.Kind}
_LAST = 10**events.SEQUENCE_DIGITS
_TEXTS = {"type": 255, "subject": 1024}
_ID = 64
_STREAM = re.compile(r"[0-9a-f]{32}")
_TOLD, _TOPIC = 500, 1024
_NESTED = 32


class Inbox:
    """Reads the messages of one batch.

    Args:
        now: When they came.
    """

    def __init__(self, now: datetime) -> None:
        self.batch = Batch()
        self.streams: dict[DeviceTopics, tuple[str, str]] = {}
        self._now = rfc3339(now)
        self._last = ("", b"")

    def put(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        """Read a message; one that is none goes into quarantine.

        Args:
            topic: Where it came.
            payload: What it is.
            retained: Whether the broker has kept it: then it is no word that its device says now.
        """
        place = parse(topic)
        self._last = (topic, payload)
        if place is None:
            return
        topics, leaf = place
        try:
            _named(topics)
            if leaf.startswith("event/"):
                self._event(topics, payload)
            elif leaf in {"state", "health"} and not payload:
                # That is how a retained message is taken back.
                self._said(topics, leaf, None)
            elif leaf == "state":
                self._state(topics, payload, retained=retained)
            elif leaf == "health":
                self._health(topics, payload, retained=retained)
        except (DataError, ValueError, ArithmeticError) as exc:
            # What the contract's models do not foresee must not end the recorder: it would come again.
            self._refuse(topics, topic, payload, str(exc))

    def refuse(self, reason: str) -> None:
        """Put what was read into quarantine instead; for a batch of one message."""
        topic, payload = self._last
        self.batch, self.streams = Batch(), {}
        place = parse(topic)
        if place is not None:
            self._refuse(place[0], topic, payload, reason)

    def _refuse(self, topics: DeviceTopics, topic: str, payload: bytes, reason: str) -> None:
        where = _place(topics, payload) if "/event/" in topic else None
        if where is not None:
            self.streams[topics] = (where.source, where.stream)
        told = reason.replace("\0", "")[:_TOLD]
        self.batch.refusals.append(Refusal(self._now, topic[:_TOPIC], told, payload, where))

    def _event(self, topics: DeviceTopics, payload: bytes) -> None:
        found = arrival(topics, payload, self._now)
        self.batch.arrivals.append(found)
        self.streams[topics] = (found.source, found.stream)

    def _state(self, topics: DeviceTopics, payload: bytes, *, retained: bool) -> None:
        _not_larger(payload, _LARGEST_STATE_BYTES)
        state = messages.decode(State, payload)
        key = (events.source(topics.store, topics.device), state.stream)
        self.batch.oldest[key] = max(state.oldest, self.batch.oldest.get(key, 1))
        self.streams[topics] = key
        self._said(topics, "state", _kept(state), heard=not retained)

    def _health(self, topics: DeviceTopics, payload: bytes, *, retained: bool) -> None:
        _not_larger(payload, _LARGEST_STATE_BYTES)
        health = messages.decode(Health, payload)
        if health.status is Availability.OFFLINE:
            # The broker says it for the device: nobody has heard that one, and more than this it cannot know.
            self._said(topics, "will", _kept(health, exclude_defaults=True))
        else:
            self._said(topics, "health", _kept(health), heard=not retained)

    def _said(self, topics: DeviceTopics, what: str, text: str | None, *, heard: bool = False) -> None:
        source = events.source(topics.store, topics.device)
        latest = self.batch.latest.setdefault(source, {"store": topics.store, "device": topics.device})
        if what == "health":
            latest.pop("will", None)
        latest[what] = text
        if heard:
            latest["heard"] = self._now


def _named(topics: DeviceTopics) -> None:
    """Refuse names that are none of the contract: a broker without an access list lets any in."""
    for name in (topics.store, topics.device):
        if not re.fullmatch(PLAIN, name):
            raise DataError(f"Expected: names of store and device. Received: {name!r:.80}.")


def _kept(message: events.Message, *, exclude_defaults: bool = False) -> str:
    """Return a message as its model has understood it: databases read other JSON in other ways."""
    value = message.model_dump(mode="json", exclude_unset=True, exclude_defaults=exclude_defaults)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def arrival(topics: DeviceTopics, payload: bytes, now: str) -> Arrival:
    """Read an event.

    Raises:
        DataError: It is none, or it speaks for another device.
    """
    _not_larger(payload, LARGEST_EVENT_BYTES)
    value = _json(payload)
    source = events.source(topics.store, topics.device)
    if value.get("source") != source:
        raise DataError(f"Expected: events of {source}. Received: one of {value.get('source')!r:.200}.")
    _known(value)
    for name, most in _TEXTS.items():
        if not isinstance(value.get(name), str) or len(value[name]) > most:
            raise DataError(
                f"Expected: {name} as a text of at most {most}. Received: {value.get(name)!r:.200}."
            )
    identity, place = value.get("id"), _placed(source, value)
    if not isinstance(identity, str) or not 1 <= len(identity) <= _ID or place is None:
        raise DataError(f"Expected: a CloudEvent with a sequence. Received: {payload[:80]!r}.")
    return Arrival(
        source, identity, place.stream, place.sequence, value["type"], value["subject"], now, payload.decode()
    )


def _known(value: dict[str, Any]) -> None:
    """Refuse an event of a kind that this version knows which is not what the contract says."""
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _KINDS:
        return
    try:
        _MODELS[_KINDS[kind].about].model_validate(value.get("data"))
    except ValidationError as exc:
        raise DataError(f"Expected: {kind} of the contract. Received: data.{explain(exc)}.") from exc
    about = value.get("subject")
    if not isinstance(about, str) or not events.is_subject(about, _KINDS[kind]):
        raise DataError(f"Expected: the subject of {kind}. Received: {about!r:.200}.")
    told = value.get("time")
    if value.get("specversion") != "1.0" or not isinstance(told, str) or moment(told) is None:
        raise DataError(f"Expected: CloudEvents 1.0 with a time. Received: {told!r:.80}.")


def _json(payload: bytes) -> dict[str, Any]:
    """Return an object of JSON that a database takes, too."""
    try:
        # Escapes and much nesting are rare and need the careful reader; it takes twice as long.
        rare = b"\\u" in payload or payload.count(b"{") + payload.count(b"[") > _NESTED
        value = strict_json(payload) if rare else READER.decode(payload.decode())
    except (ValueError, RecursionError) as exc:
        raise DataError(f"Expected: JSON. Received: {payload[:80]!r}: {explain(exc)}.") from exc
    if not isinstance(value, dict):
        raise DataError(f"Expected: a CloudEvent. Received: {payload[:80]!r}.")
    return value


def _not_larger(payload: bytes, most: int) -> None:
    if len(payload) > most:
        raise DataError(f"Expected: at most {most} bytes. Received: {len(payload)}.")


def _place(topics: DeviceTopics, payload: bytes) -> Place | None:
    """Return where in its stream a bad event stands, as far as it says so."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    source = events.source(topics.store, topics.device)
    return _placed(source, value) if isinstance(value, dict) and value.get("source") == source else None


def _placed(source: str, value: dict[str, Any]) -> Place | None:
    stream, text = value.get("streamid"), value.get("sequence")
    if not isinstance(stream, str) or not _STREAM.fullmatch(stream):
        return None
    if not isinstance(text, str) or not (
        text.isascii() and text.isdigit() and len(text) <= events.SEQUENCE_DIGITS
    ):
        return None
    return Place(source, stream, int(text)) if 1 <= int(text) < _LAST else None
