"""The rendered shelf as a camera: `shelf:seed=7`, `shelf:seed=7,minutes=10,start=2026-11-23T09:00:00Z`."""

import time
from collections.abc import Callable

from edge_agent.camera.base import Camera, Frame
from edge_agent.camera.shelf.film import Film
from edge_agent.contracts.errors import ConfigError
from edge_agent.contracts.times import moment

_DEFAULT_SEED = 7
_DEFAULT_FPS = 10.0
_MOST_MINUTES = 24 * 60
_FORM = (
    "shelf:[seed=NUMBER][,minutes=NUMBER][,start=RFC 3339 with a zone], "
    "e.g. shelf:seed=7,start=2026-11-23T09:00:00Z"
)


class ShelfCamera(Camera):
    """Frames of one script, in step with a clock; before and after the script the shelf stands still.

    Args:
        film: What to show.
        start: When the script begins, Unix seconds; None: now.
        wall: The clock that `start` belongs to.
        steady: The clock of `Frame.at`; the wall clock is asked once, so that setting it does no harm.
    """

    def __init__(
        self,
        film: Film,
        *,
        start: float | None = None,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._film = film
        self._steady = steady
        self._begin = steady() + (0.0 if start is None else start - wall())

    def read(self) -> Frame:
        """Return the shelf as it looks now; never ends."""
        now = self._steady()
        return Frame(self._film.frame(now - self._begin), now)


class ShelfClip(Camera):
    """Frames of one script, one after another as fast as they are read, until it ends.

    Args:
        film: What to show.
        fps: Frames for each second of the script.
    """

    def __init__(self, film: Film, *, fps: float) -> None:
        self._film = film
        self._fps = fps
        self._next = 0

    def read(self) -> Frame | None:
        """Return the next frame, or None when the script is over."""
        at = self._next / self._fps
        if at >= self._film.script.duration_s:
            return None
        self._next += 1
        return Frame(self._film.frame(at), at)


def shelf_camera(source: str, *, live: bool, fps: float = _DEFAULT_FPS) -> Camera:
    """Return the camera that a `shelf:` source names.

    Args:
        source: As in `device.yaml`.
        live: In step with the clock; otherwise through the script as fast as frames are read.
        fps: Frames for each second of the script; a live camera gives one whenever it is asked.

    Raises:
        ConfigError: The source has an option that there is not, or a value that cannot be.
    """
    options = _options(source)
    start = _start(options.get("start"), source)
    film = Film(
        _seed(options.get("seed", str(_DEFAULT_SEED)), source), _minutes(options.get("minutes"), source)
    )
    return ShelfCamera(film, start=start) if live else ShelfClip(film, fps=fps)


def _options(source: str) -> dict[str, str]:
    scheme, _, rest = source.partition(":")
    pairs = [option.partition("=") for option in rest.split(",") if option]
    options = {name.strip(): value.strip() for name, _, value in pairs}
    unknown = sorted(options.keys() - {"seed", "minutes", "start"})
    if scheme != "shelf" or unknown or len(options) < len(pairs):
        raise ConfigError(
            f"Expected: {_FORM}. Received: {source!r}.",
            hint="the options are `seed`, `minutes` and `start`",
        )
    return options


def _seed(text: str, source: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"Expected: seed as a whole number from 0. Received: {text!r} in {source!r}.")
    return int(text)


def _minutes(text: str | None, source: str) -> int | None:
    """Return how long the script is to be; None: the short one."""
    if text is None:
        return None
    # More digits than any answer has: int() refuses thousands of them in words of its own.
    whole = text.isascii() and text.isdigit() and len(text) < 9  # noqa: PLR2004
    found = int(text) if whole else 0
    if not 1 <= found <= _MOST_MINUTES:
        raise ConfigError(
            f"Expected: minutes as a whole number, 1 to {_MOST_MINUTES}. Received: {text!r} in {source!r}."
        )
    return found


def _start(text: str | None, source: str) -> float | None:
    if text is None:
        return None
    found = moment(text)
    if found is None:
        raise ConfigError(
            f"Expected: start as RFC 3339 with a zone. Received: {text!r} in {source!r}.",
            hint="for example start=2026-11-23T09:00:00Z",
        )
    return found.timestamp()
