"""When the next picture is due. Pure.

Where pictures are rare (one in minutes) a single one says little: a hand, or goods on their way, look like
a change. So several are taken close together, until everything that they show counts or is hidden, and then
none for a long while.
"""

from dataclasses import dataclass, field

from edge_agent.setup import RARE_S, Setup

_CLOSE_S = 0.5
_MORE_S = 5.0


@dataclass(slots=True)
class Schedule:
    """Of one camera.

    Attributes:
        interval_s: Between pictures, or, where they are rare, from the first of a few to the next first.
        longest_s: How long those few may take.
    """

    interval_s: float
    longest_s: float
    _first: float | None = field(default=None, init=False)

    @classmethod
    def of(cls, made: Setup) -> "Schedule":
        """Make it for a device."""
        rules = made.policy
        return cls(1 / made.config.camera.fps, 2 * rules.confirm_s + rules.clear_s + _MORE_S)

    def after(self, due: float, now: float, *, settled: bool) -> float:
        """Return when the next picture is due.

        Args:
            due: When the last one was, seconds.
            now: When it has been judged; a slow frame is no reason to hurry afterwards.
            settled: Whether another one like it would say nothing new.
        """
        if self.interval_s <= RARE_S:
            return max(due + self.interval_s, now)
        first = due if self._first is None else self._first
        if not settled and now - first < self.longest_s:
            self._first = first
            return now + _CLOSE_S
        self._first = None
        return max(first + self.interval_s, now)
