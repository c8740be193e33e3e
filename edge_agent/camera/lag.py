"""How far a stream is behind. Pure.

A stream knows when each of its frames was made, on a clock of its own, and we know when it came. The
least difference ever seen is a frame that did not wait anywhere; whatever is later has waited.
"""

import math
from dataclasses import dataclass

_CATCHING_UP_S = 0.005
_BEGINNING_S = 1.0
_DRIFT = 0.001
"""Clocks of cameras are wrong by less than this share; the least difference may creep so fast."""


@dataclass(frozen=True, slots=True)
class Lag:
    """What was seen of one stream.

    Attributes:
        least_s: The least difference, arrival less time of the stream; None: nothing seen yet.
        came: When the last frame came, seconds.
        made: Its time on the clock of the stream, seconds.
        begun: When the first frame came, seconds.
        behind_s: How long the last frame has waited; infinite while the stream still catches up,
            None where its clock says nothing.
    """

    least_s: float | None = None
    came: float = 0.0
    made: float = 0.0
    begun: float = 0.0
    behind_s: float | None = math.inf

    def step(self, came: float, made: float) -> "Lag":
        """Fold in the next frame.

        Args:
            came: When it came, seconds.
            made: Its time on the clock of the stream, seconds.
        """
        apart = came - made
        if self.least_s is None:
            return Lag(apart, came, made, came)
        if made <= self.made:
            # A clock that stands still or jumps back says nothing; at the very beginning, all do that.
            fresh = came - self.begun < _BEGINNING_S
            return Lag(apart, came, made, self.begun, math.inf if fresh else None)
        least = self.least_s + _DRIFT * max(came - self.came, 0.0)
        if apart < least - _CATCHING_UP_S:
            # Each frame has waited less than the one before: there was a queue, and it gets shorter.
            return Lag(apart, came, made, self.begun)
        least = min(least, apart)
        return Lag(least, came, made, self.begun, apart - least)
