"""What parts of a device tell each other in small files; whatever cannot be read was not said.

launcher/starts.json     the launcher: which release was started when, and how it ended
exchange/desired.json    the agent: what a rollout wants, and where releases come from
exchange/proof.json      the agent: what it can show for itself
exchange/reported.json   the updater: how far it is
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

FORMAT = 1
KEPT = 32
"""Starts that are remembered; far more than a trial may have."""


@dataclass(frozen=True, slots=True)
class End:
    """How a process of the agent ended, in systemd's words.

    Attributes:
        result: `success`, `exit-code`, `signal`, `core-dump`, `watchdog`, `timeout`, `oom-kill`...
        status: Exit code, or name of a signal.
    """

    result: str
    status: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a release.

    Attributes:
        number: Rises with each start of this device.
        release: What was started.
        boot_id: In which life of the machine.
        at: Seconds since it booted.
        end: How it ended; None while it runs, and where the machine went down with it.
    """

    number: int
    release: int
    boot_id: str
    at: float
    end: End | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants the device to run.

    Attributes:
        rollout: Its name; None: somebody at the device itself.
        window: Minutes of the day, in the device's zone, from when until when an update may start.
    """

    rollout: str | None
    attempt: int
    release: int
    not_before: datetime | None = None
    window: tuple[int, int] | None = None

    @property
    def key(self) -> tuple[str | None, int, int]:
        """What makes it another wish."""
        return self.rollout, self.attempt, self.release


@dataclass(frozen=True, slots=True)
class Source:
    """Where releases come from, and the certificates to fetch them with."""

    url: str
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Desired:
    """`desired.json`.

    Attributes:
        wish: None: taken back.
        source: Where releases come from.
        zone: The device's; None: that of its machine.
    """

    wish: Wish | None = None
    source: Source | None = None
    zone: ZoneInfo | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """`proof.json`: what an agent can show for itself.

    Attributes:
        release: That it is.
        start: Number of its start.
        boot_id: In which life of the machine.
        golden: Its model computes what it was proven to.
        camera: Pictures come.
        inferences: Timed ones that took no longer than they may.
        slow_ms: How long one took where that is too long.
        puback: The broker has taken a message of this process.
        linked_at: When the broker took one last, seconds since the machine booted.
        safe_mode: Why it makes no events.
    """

    release: int
    start: int
    boot_id: str
    golden: bool = False
    camera: bool = False
    inferences: int = 0
    slow_ms: float | None = None
    puback: bool = False
    linked_at: float | None = None
    safe_mode: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """`reported.json`, without time and boot."""

    phase: str
    rollout: str | None = None
    attempt: int | None = None
    release: int | None = None
    good: int | None = None
    reason: str | None = None
    previous: int | None = None


def encode_starts(starts: Sequence[Start]) -> bytes:
    """Return `starts.json`, with the latest ones."""
    return _json({"starts": [asdict(start) for start in starts[-KEPT:]]})


def decode_starts(content: bytes | None) -> tuple[Start, ...]:
    """Read `starts.json`; nothing where it is damaged."""
    try:
        return tuple(_start(item) for item in _object(content)["starts"])
    except _UNREADABLE:
        return ()


def encode_desired(desired: Desired, payload: Mapping[str, object] | None) -> bytes:
    """Return `desired.json`.

    Args:
        desired: Where releases come from, and the device's zone; its wish is not looked at.
        payload: The wish as the contract's message has it.
    """
    source = asdict(desired.source) if desired.source else None
    zone = desired.zone.key if desired.zone else None
    return _json({"desired": payload, "source": source, "zone": zone})


def decode_desired(content: bytes | None) -> Desired | None:
    """Read `desired.json`; None where nothing, or nothing that can be read, is said."""
    try:
        value = _object(content)
        return Desired(
            wish=_maybe(_wish, value["desired"]),
            source=_maybe(_source, value.get("source")),
            zone=_maybe(_zone, value.get("zone")),
        )
    except _UNREADABLE:
        return None


def encode_proof(proof: Proof) -> bytes:
    """Return `proof.json`."""
    return _json(asdict(proof))


def decode_proof(content: bytes | None) -> Proof | None:
    """Read `proof.json`; None where it is damaged."""
    try:
        value = _object(content)
        return Proof(
            release=_whole(value["release"]),
            start=_whole(value["start"]),
            boot_id=_text(value["boot_id"]),
            golden=value.get("golden") is True,
            camera=value.get("camera") is True,
            inferences=_whole(value.get("inferences", 0)),
            slow_ms=_maybe(_number, value.get("slow_ms")),
            puback=value.get("puback") is True,
            linked_at=_maybe(_number, value.get("linked_at")),
            safe_mode=_maybe(_text, value.get("safe_mode")),
        )
    except _UNREADABLE:
        return None


def encode_report(report: Report, *, boot_id: str, time: str) -> bytes:
    """Return `reported.json`, as the contract's message has it."""
    return _json({**asdict(report), "boot_id": boot_id, "time": time})


_UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, RecursionError)


def _json(value: Mapping[str, object]) -> bytes:
    return (json.dumps({"format": FORMAT, **value}, sort_keys=True) + "\n").encode()


def _object(content: bytes | None) -> Mapping[str, Any]:
    value = json.loads(content or b"")
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError(value)
    return value


def _start(value: Mapping[str, Any]) -> Start:
    end = value["end"]
    return Start(
        number=_whole(value["number"]),
        release=_whole(value["release"]),
        boot_id=_text(value["boot_id"]),
        at=_number(value["at"]),
        end=None if end is None else End(_text(end["result"]), _text(end["status"])),
    )


def _wish(value: Mapping[str, Any]) -> Wish:
    moment = value.get("not_before")
    window = value.get("window")
    not_before = None if moment is None else datetime.fromisoformat(moment)
    if not_before is not None and not_before.tzinfo is None:
        raise ValueError(moment)
    return Wish(
        rollout=_text(value["rollout"]),
        attempt=_whole(value.get("attempt", 1)),
        release=_whole(value["release"]),
        not_before=not_before,
        window=None if window is None else _window(window),
    )


def _window(text: str) -> tuple[int, int]:
    first, last = (_minute(part) for part in text.split("-"))
    return first, last


def _minute(text: str) -> int:
    hours, minutes = (int(part) for part in text.split(":"))
    if not (0 <= hours < 24 and 0 <= minutes < 60):  # noqa: PLR2004 - a clock's
        raise ValueError(text)
    return 60 * hours + minutes


def _source(value: Mapping[str, Any]) -> Source:
    paths = [_maybe(_text, value.get(name)) for name in ("ca", "certificate", "key")]
    return Source(_text(value["url"]), *paths)


def _zone(value: object) -> ZoneInfo:
    return ZoneInfo(_text(value))


def _maybe(read: Any, value: object) -> Any:  # noqa: ANN401 - whatever `read` gives
    return None if value is None else read(value)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError(value)
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not -1e15 < value < 1e15:  # noqa: PLR2004 - no NaN, nothing endless
        raise ValueError(value)
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 4000:  # noqa: PLR2004 - words, not books
        raise ValueError(value)
    return value
