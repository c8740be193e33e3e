"""Logs of every command: lines for people, or one JSON object a line for machines; never a password.

`SHELFKIT_LOG` names the level, `SHELFKIT_LOG_FORMAT` the form. What native libraries print to
standard error by themselves (FFmpeg about a stream) does not pass here.
"""

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from math import isfinite

from edge_agent.contracts.command import one_of, run_command
from edge_agent.contracts.errors import KitError
from edge_agent.contracts.times import rfc3339

log = logging.getLogger("shelfkit")


class Format(StrEnum):
    """How a record is written."""

    TEXT = "text"
    JSON = "json"


LEVELS = ("debug", "info", "warning", "error", "critical")

_HIDDEN = "***"
# A password may hold a slash or an @: everything up to the last @ of the word goes, rather too much than
# too little.
_USER_INFO = re.compile(r"(?<=://)(?:[^\s/@]*:\S*|[^\s/@]*)@")
_SENSITIVE = (
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|private[_-]?key|authorization|credentials?)"
)
_SENSITIVE_NAME = re.compile(rf"{_SENSITIVE}$", re.IGNORECASE)
_SENSITIVE_VALUE = re.compile(
    rf"""({_SENSITIVE}["']?\s*[=:]\s*)((?:bearer|basic)\s+\S+|"[^"]*"|'[^']*'|[^\s&,;}}]+)""", re.IGNORECASE
)


def redacted(text: str) -> str:
    """Return a text without what looks like credentials: user and password in URLs, `password=...`."""
    return _SENSITIVE_VALUE.sub(rf"\1{_HIDDEN}", _USER_INFO.sub(f"{_HIDDEN}@", text))


class TextFormatter(logging.Formatter):
    """Lines for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record, with its traceback where it has one."""
        return redacted(super().format(record))


_OWN_FIELDS = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object for each record, always on one line.

    Fields: `time` (RFC 3339, UTC, milliseconds), `level`, `logger`, `message`, `exception` (a string)
    where there is one, and whatever was given as `extra`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the object; no record is lost because something in it cannot be told."""
        told: dict[str, object] = {
            "time": rfc3339(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redacted(_message(record)),
        }
        if record.exc_info:
            told["exception"] = redacted(self.formatException(record.exc_info))
        elif record.exc_text:
            told["exception"] = redacted(record.exc_text)
        if record.stack_info:
            told["stack"] = redacted(record.stack_info)
        for name, value in vars(record).items():
            if name not in _OWN_FIELDS:
                told[f"{name}_" if name in told else name] = _extra(name, value)
        # ASCII alone: some readers take U+2028 for the end of a line.
        return json.dumps(told, ensure_ascii=True, allow_nan=False)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} {record.args!r}"


def _extra(name: str, value: object) -> object:
    """Return a value as JSON can hold it, without credentials."""
    try:
        return _plain(name, value)
    except RecursionError:
        return redacted(repr(value))


def _plain(name: str, value: object) -> object:
    if _SENSITIVE_NAME.search(name):
        return _HIDDEN
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value)):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain("", item) for item in value]
    return redacted(str(value))


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    """The kit's own handler, so that setting up twice changes it and adds no second."""


def set_up(form: Format | None = None) -> None:
    """Set logs up for this process; again, to change the form.

    Args:
        form: None: as `SHELFKIT_LOG_FORMAT` says, else text.

    Raises:
        UsageError: The environment names a level or form that there is not.
    """
    level = os.environ.get("SHELFKIT_LOG") or "warning"
    chosen = form or _form(os.environ.get("SHELFKIT_LOG_FORMAT") or Format.TEXT)
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(old)
    handler = _Handler(sys.stderr)
    handler.setFormatter(JsonFormatter() if chosen is Format.JSON else TextFormatter())
    root.addHandler(handler)
    set_level(level, name="SHELFKIT_LOG")
    # What Python itself prints over several lines becomes a record too.
    logging.captureWarnings(chosen is Format.JSON)
    threading.excepthook = _thread_died if chosen is Format.JSON else threading.__excepthook__


def _form(text: str) -> Format:
    return Format(one_of("SHELFKIT_LOG_FORMAT", text.lower(), [*Format]))


def set_level(level: str, *, name: str = "level") -> None:
    """Change how much is told, at once and for the whole process.

    Args:
        level: One of `LEVELS`.
        name: What the level came from, for the message.

    Raises:
        UsageError: There is no such level; nothing was changed.
    """
    logging.getLogger().setLevel(one_of(name, level.lower(), LEVELS).upper())


def as_json() -> bool:
    """Return whether records are written as JSON."""
    return any(
        isinstance(handler, _Handler) and isinstance(handler.formatter, JsonFormatter)
        for handler in logging.getLogger().handlers
    )


def run(app: Callable[[], object]) -> int:
    """Set logs up, run a command line, and return its exit code.

    Where logs are JSON the error that ends the command is a record as well; a log reader that
    loses the last line loses the one that matters.
    """

    def whole() -> None:
        set_up()
        try:
            app()
        except (BrokenPipeError, ModuleNotFoundError):
            raise
        except Exception as exc:
            if not as_json():
                raise
            raise SystemExit(_told(exc)) from exc

    return run_command(whole)


def _told(exc: Exception) -> int:
    if isinstance(exc, KitError):
        log.error("%s", exc, extra={"hint": exc.hint} if exc.hint else {})
        log.debug("details", exc_info=exc)
        return exc.exit_code
    log.critical("unexpected %s: %s", type(exc).__name__, exc, exc_info=exc)
    return KitError.exit_code


def _thread_died(died: threading.ExceptHookArgs) -> None:
    if died.exc_value is not None:
        name = died.thread.name if died.thread else "unknown"
        log.critical("thread %s ended by an error", name, exc_info=died.exc_value)
