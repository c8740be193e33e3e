"""The one place where the two clocks meet."""

import time
from datetime import UTC, datetime, timedelta


def wall(at: float) -> datetime:
    """Return the time of a moment of the steady clock, as far as the wall clock knows it now."""
    return datetime.now(UTC) - timedelta(seconds=time.monotonic() - at)
