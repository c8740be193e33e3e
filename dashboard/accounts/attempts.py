"""Passwords that somebody tries: few at once, ever more slowly after failures, and each failure is noted."""

from datetime import timedelta

import anyio
from starlette.requests import Request

from dashboard.accounts.gate import Access, client_of

_AT_ONCE = 2


class Attempts:
    """Looks at passwords.

    Args:
        access: Who is let in.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        # A password is made slow to try: whoever tries many at once must not take all processors and memory.
        self._trying = anyio.CapacityLimiter(_AT_ONCE)

    async def right(self, request: Request, name: str, password: str) -> tuple[bool, timedelta]:
        """Return whether it is the account's password; where it was not looked at, how long to wait."""
        address, now, throttle = client_of(request), self._access.clock(), self._access.throttle
        wait = throttle.wait(name, address, now)
        if wait:
            return False, wait
        people = self._access.accounts.people
        # Counted before it is known: many tries at the same time are many tries.
        throttle.failed(name, address, now)
        right = await anyio.to_thread.run_sync(people.right, name, password, limiter=self._trying)
        if right:
            throttle.succeeded(name, address)
        else:
            await self._access.note(request, name, "login-failed")
        return right, timedelta()
