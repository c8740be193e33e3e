"""Who may look: a code for one browser, five tries, and an end. Knows no network; time is an argument."""

import hmac
import secrets
import threading
from enum import StrEnum

TRIES = 5
_DIGITS = 8
_LEAVE_OUT = str.maketrans("", "", " -\t")


class Answer(StrEnum):
    """What became of a code that somebody typed."""

    IN = "in"
    WRONG = "wrong"
    USED = "used"
    OVER = "over"


class Door:
    """Lets one browser in, for a while. May be asked from any thread.

    Args:
        code: What must be typed, once.
        token: What the browser shows from then on.
        ends: When it is over, seconds of the clock that `now` comes from.
    """

    def __init__(self, *, code: str, token: str, ends: float) -> None:
        self.ends = ends
        self._code, self._token = code, token
        self._wrong, self._used = 0, False
        self._lock = threading.Lock()

    @classmethod
    def fresh(cls, *, ends: float) -> "Door":
        """Return one with a code and a token that nobody can guess."""
        code = f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}d}"
        return cls(code=code, token=secrets.token_urlsafe(32), ends=ends)

    @property
    def code(self) -> str:
        """The code as people read it: in two halves."""
        half = len(self._code) // 2
        return f"{self._code[:half]} {self._code[half:]}"

    @property
    def broken(self) -> bool:
        """Whether too many wrong codes were tried."""
        return self._wrong >= TRIES

    def over(self, now: float) -> bool:
        """Return whether nobody may look any more."""
        return self.broken or now >= self.ends

    def enter(self, typed: str, now: float) -> tuple[Answer, str]:
        """Try a code.

        Args:
            typed: What somebody typed; spaces and hyphens do not matter.
            now: Of the clock that `ends` belongs to.

        Returns:
            What became of it, and the token where it was right.
        """
        with self._lock:
            if self.over(now):
                return Answer.OVER, ""
            if self._used:
                # Not counted: a stranger could end the session of the one who is in.
                return Answer.USED, ""
            given = typed.translate(_LEAVE_OUT).encode()
            if not hmac.compare_digest(given, self._code.encode()):
                self._wrong += 1
                return Answer.OVER if self.broken else Answer.WRONG, ""
            self._used = True
            return Answer.IN, self._token

    def knows(self, token: str, now: float) -> bool:
        """Return whether a browser that shows this token may look."""
        with self._lock:
            good = hmac.compare_digest(token.encode(), self._token.encode())
            return good and self._used and not self.over(now)
