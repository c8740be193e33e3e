"""What open pages are told: a patch makes one snapshot of the other, and nobody misses anything."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard.hub import Hub
from dashboard.pages.live import Live, patch
from dashboard.queries import Queries
from dashboard.store import Batch, Store
from tests.dashboard.pages import snapshot

SOURCE = "/stores/0417/devices/cam-12-01"
JSON = st.recursive(
    st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner | st.none(), max_size=4),
    max_leaves=12,
)
OBJECT = st.dictionaries(st.sampled_from("abcd"), JSON | st.none(), max_size=4)


def merged(into: Any, change: Any) -> Any:  # noqa: ANN401 - JSON
    """Apply a patch as RFC 7396 writes it."""
    if not isinstance(change, dict):
        return change
    found = dict(into) if isinstance(into, dict) else {}
    for name, value in change.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def without_null(value: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(value, dict):
        return value
    return {name: without_null(item) for name, item in value.items() if item is not None}


@settings(max_examples=50)
@given(OBJECT, OBJECT)
def test_a_patch_makes_one_of_the_other(before: dict[str, Any], now: dict[str, Any]) -> None:
    assert without_null(merged(before, patch(before, now))) == without_null(now)
    assert patch(now, now) == {}


class Shop:
    """A store with one device, whose snapshots are numbered."""

    def __init__(self, folder: Path) -> None:
        self._store = Store(f"sqlite:///{folder / 'd.sqlite'}")
        self.hub = Hub()
        self.live = Live(Queries(self._store.engine), self.hub, lambda: True)
        self.note(0)

    def note(self, number: int) -> None:
        state = json.dumps(snapshot(last=number))
        latest: dict[str, dict[str, str | None]] = {}
        latest[SOURCE] = {"store": "0417", "device": "cam-12-01", "state": state}
        with self._store.writing() as connection:
            self._store.take(connection, Batch(latest=latest), datetime.now(UTC))
        self.hub.changed({SOURCE, "/stores/other/devices/x"})

    def open(self) -> AsyncIterator[bytes]:
        async def allowed() -> bool:
            return True

        return self.live.stream("0417", allowed)

    def close(self) -> None:
        self._store.close()


def kinds(told: bytes) -> list[str]:
    return [line.removeprefix("event: ") for line in told.decode().splitlines() if line.startswith("event: ")]


async def until(stream: AsyncIterator[bytes], number: int) -> bytes:
    """Read on until a snapshot is told; return all of it."""
    told = b""
    while f'"last":{number}'.encode() not in told:
        told += await anext(stream)
    return told


def test_every_page_is_told_and_a_slow_one_gets_all_that_it_missed(tmp_path: Path) -> None:
    shop = Shop(tmp_path)

    async def visit() -> None:
        async with aclosing(shop.open()) as quick, aclosing(shop.open()) as slow:  # type: ignore[type-var]
            for page in (quick, slow):
                assert kinds(await until(page, 0)) == ["begin", "device", "link"]
            for number in range(1, 4):
                await asyncio.to_thread(shop.note, number)
                assert kinds(await until(quick, number)) == ["change"]
            assert kinds(await anext(slow)) == ["change"] * 3
            assert shop.live.pages == 2
        assert shop.live.pages == 0

    asyncio.run(visit())
    shop.close()


def test_a_page_that_was_away_for_long_gets_everything_anew(tmp_path: Path) -> None:
    shop = Shop(tmp_path)

    async def visit() -> None:
        async with aclosing(shop.open()) as quick, aclosing(shop.open()) as slow:  # type: ignore[type-var]
            await until(slow, 0)
            for number in range(1, 53):
                await asyncio.to_thread(shop.note, number)
                await until(quick, number)
            assert kinds(await anext(slow)) == ["begin", "device", "link"]

    asyncio.run(visit())
    shop.close()


def test_a_server_that_ends_lets_its_pages_go(tmp_path: Path) -> None:
    shop = Shop(tmp_path)

    async def visit() -> list[bytes]:
        stream = shop.open()
        await until(stream, 0)
        shop.hub.close()
        return [told async for told in stream]

    assert asyncio.run(visit()) == []
    shop.close()


def test_a_view_that_cannot_go_on_ends_its_pages_instead_of_leaving_them_behind(tmp_path: Path) -> None:
    shop = Shop(tmp_path)

    async def visit() -> str:
        async with aclosing(shop.open()) as page:  # type: ignore[type-var]
            await until(page, 0)
            shop.live._queries.news = None  # type: ignore[assignment,method-assign] # a mistake of ours
            await asyncio.to_thread(shop.note, 1)
            try:
                await anext(page)
            except TypeError as exc:
                return str(exc)
        return ""

    assert "NoneType" in asyncio.run(visit())
    shop.close()
