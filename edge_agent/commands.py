"""What operators ask of a device over MQTT: each request is done once, and answered.

Nothing that comes in can do more than be refused: what is no request is left out, what is a wrong one is
answered with what was expected. Retained commands are left out as well: a broker would repeat them for ever.
A request is written down before it is done, so that one which ends the process is not done again by the
next.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from edge_agent import logs
from edge_agent.contracts import messages
from edge_agent.contracts.errors import DataError, KitError
from edge_agent.contracts.files import written_beside
from edge_agent.contracts.messages import Command, Reply, SetLogLevel
from edge_agent.contracts.topics import DeviceTopics, parse
from edge_agent.mqtt import Publication, Received

log = logging.getLogger(__name__)

_REMEMBERED = 100
_FILE = "requests.json"
_EXPIRY_S = 60
_LONGEST_ERROR = 8000

AnyCommand = TypeVar("AnyCommand", bound=Command)


@dataclass(frozen=True, slots=True)
class Handler(Generic[AnyCommand]):
    """One command.

    Attributes:
        model: What its payload must be.
        do: Does it; what it returns goes into the reply. Raises `KitError` where it cannot be done.
    """

    model: type[AnyCommand]
    do: Callable[[AnyCommand], Mapping[str, object]]


class Requests:
    """The latest requests, over restarts.

    Args:
        folder: Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._known = self._read()

    def first_time(self, request: str) -> bool:
        """Return whether a request is new, and remember it."""
        if request in self._known:
            return False
        self._known = [*self._known, request][-_REMEMBERED:]
        try:
            with written_beside(self._path) as staged:
                staged.write_text(json.dumps(self._known))
        except OSError as exc:
            log.warning("a request is remembered until the next start only: %s", exc.strerror)
        return True

    def _read(self) -> list[str]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return []
        known = found if isinstance(found, list) else []
        return [item for item in known if isinstance(item, str)][-_REMEMBERED:]


class Commands:
    """Takes commands to what does them, and says what came of it.

    Args:
        topics: Of the device.
        requests: The latest ones.
        handlers: By name.
        others: Names that exist but cannot be done now, and why.
    """

    def __init__(
        self,
        topics: DeviceTopics,
        requests: Requests,
        handlers: Mapping[str, Handler[Any]],
        *,
        others: tuple[Iterable[str], str] = ((), ""),
    ) -> None:
        self._topics, self._requests, self._handlers = topics, requests, handlers
        self._others, self._why = frozenset(others[0]), others[1]

    def answer(self, received: Received) -> Publication | None:
        """Do what a message asks for; None where it asks for nothing, or for the second time."""
        place = parse(received.topic)
        if place is None or not place[1].startswith("cmd/"):
            return None
        name = place[1].removeprefix("cmd/")
        if received.retain:
            log.warning("cmd/%s: left out: commands must not be retained", name)
            return None
        try:
            request = messages.decode(Command, received.payload).request
        except DataError as exc:
            log.warning("cmd/%s: left out: %s", name, exc)
            return None
        if not self._requests.first_time(request):
            return None
        reply = self._reply(name, request, received.payload)
        log.info("cmd/%s: %s", name, reply.error or "done")
        return Publication(self._topics.reply(name), messages.encode(reply), expiry_s=_EXPIRY_S)

    def _reply(self, name: str, request: str, payload: bytes) -> Reply:
        handler = self._handlers.get(name)
        try:
            if handler is None:
                raise DataError(self._unknown(name))
            more = handler.do(messages.decode(handler.model, payload))
        except KitError as exc:
            error = f"{exc} {exc.hint}".strip()[:_LONGEST_ERROR]
            return Reply(request=request, ok=False, error=error)
        return Reply.model_validate({**more, "request": request, "ok": True})

    def _unknown(self, name: str) -> str:
        if name in self._others:
            return self._why
        return (
            f"Expected: one of {', '.join(sorted({*self._handlers, *self._others}))}. Received: {name!r:.80}."
        )


def set_log_level(command: SetLogLevel) -> Mapping[str, object]:
    """Do `cmd/set-log-level`: for the whole process, until it ends."""
    logs.set_level(command.level)
    return {}
