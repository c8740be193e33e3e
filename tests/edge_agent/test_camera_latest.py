"""The present of a camera that fails, hangs or is slow: who waits for how long, and what is counted."""

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from edge_agent.camera.base import Camera, Frame, Stream
from edge_agent.camera.latest import Latest, Timing
from edge_agent.contracts.errors import DataError, DeviceError

SOON = Timing(patience_s=0.2, pause_s=0.01, close_s=0.2)
PATIENT = Timing(patience_s=20, pause_s=0.01)


def frame(number: int) -> Frame:
    return Frame(np.full((4, 4, 3), number % 250, np.uint8), float(number))


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


class Clock:
    """A clock that stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Flow(Stream):
    """Numbered frames, a new one every few milliseconds; may hang or fail at one of them."""

    def __init__(self, *, every_s: float = 0.005, hangs_at: int = -1, fails_at: int = -1) -> None:
        self.number = self.decoded = self.closed = 0
        self.comes_back = threading.Event()
        self._every_s, self._hangs_at, self._fails_at = every_s, hangs_at, fails_at

    def grab(self) -> None:
        if self.number == self._hangs_at:
            self.comes_back.wait()
        if self.number == self._fails_at:
            raise DeviceError("Expected: a cable. Received: none.", hint="plug it in")
        time.sleep(self._every_s)
        self.number += 1

    def retrieve(self) -> Frame | None:
        self.decoded += 1
        return frame(self.number)

    def close(self) -> None:
        self.closed += 1


def test_a_slow_reader_sees_the_present_and_what_it_missed_is_counted_and_never_decoded() -> None:
    inner = Flow()
    seen = []
    with Latest(lambda: inner, name="x", timing=PATIENT) as camera:
        for _ in range(5):
            time.sleep(0.1)
            asked = inner.number
            seen.append(camera.read().at)
            assert seen[-1] >= asked
    assert inner.closed == 1
    assert camera.dropped == inner.number - len(seen) > len(seen)
    assert inner.decoded == len(seen)


def test_a_camera_that_queues_nothing_works_only_when_it_is_asked() -> None:
    class Stills(Camera):
        asked = 0

        def read(self) -> Frame:
            self.asked += 1
            return frame(self.asked)

    inner = Stills()
    with Latest(lambda: inner, name="x", timing=PATIENT) as camera:
        time.sleep(0.05)
        assert inner.asked == 0
        assert [camera.read().at, camera.read().at] == [1, 2]
    assert (inner.asked, camera.dropped) == (2, 0)


def test_no_frame_is_an_error_that_says_what_to_do() -> None:
    inner = Flow(hangs_at=0)
    with (
        Latest(lambda: inner, name="v4l2:/dev/video0", timing=SOON) as camera,
        pytest.raises(DeviceError, match=r"frame from v4l2:/dev/video0.*none in 0\.2 s") as caught,
    ):
        camera.read()
    assert "cable" in caught.value.hint
    inner.comes_back.set()


def test_frames_that_are_not_worth_showing_are_passed_over() -> None:
    class Damaged(Flow):
        def retrieve(self) -> Frame | None:
            return super().retrieve() if self.number % 3 == 0 else None

    with Latest(Damaged, name="x", timing=PATIENT) as camera:
        assert [camera.read().at % 3 for _ in range(4)] == [0] * 4


def test_a_camera_that_is_pulled_out_and_put_back_comes_back_by_itself() -> None:
    plugged = threading.Event()
    opened: list[Flow] = []

    def opener() -> Camera:
        if len(opened) == 1 and not plugged.is_set():
            raise DeviceError("Expected: a camera at /dev/video0. Received: no such device.")
        opened.append(Flow(fails_at=0 if not opened else -1))
        return opened[-1]

    with Latest(opener, name="x", timing=SOON) as camera:
        with pytest.raises(DeviceError, match="no such device") as caught:
            camera.read()
        assert "tries again" in caught.value.hint
        assert opened[0].closed == 1
        plugged.set()
        until(lambda: len(opened) == 2 and opened[1].number > 0)
        assert camera.read().at > 0
    assert opened[1].closed == 1


def test_what_the_camera_itself_says_reaches_the_reader_and_is_forgotten_when_all_is_well() -> None:
    opened: list[Flow] = []

    def opener() -> Camera:
        opened.append(Flow(fails_at=0) if len(opened) < 3 else Flow(hangs_at=5))
        return opened[-1]

    wait = threading.Event()
    with Latest(opener, name="x", timing=SOON, pause=lambda _stopped, _seconds: wait.wait()) as camera:
        with pytest.raises(DeviceError, match="a cable") as caught:
            camera.read()
        assert caught.value.hint == "plug it in"
        wait.set()
        until(lambda: len(opened) == 4 and opened[3].number == 5)
        with pytest.raises(DeviceError, match="none in"):
            camera.read()
    opened[3].comes_back.set()


@pytest.mark.parametrize("error", [None, DataError("Expected: a picture. Received: rubbish.")])
def test_an_inner_camera_that_ends_or_fails_in_its_own_way_is_opened_again(error: DataError | None) -> None:
    class Short(Camera):
        left = 2

        def read(self) -> Frame | None:
            self.left -= 1
            if self.left >= 0:
                return frame(self.left)
            if error is not None:
                raise error
            return None

    with Latest(Short, name="x", timing=PATIENT) as camera:
        assert [camera.read().at for _ in range(6)] == [1, 0, 1, 0, 1, 0]


def test_a_hung_driver_is_given_up_another_takes_over_and_what_comes_late_is_not_shown() -> None:
    clock = Clock()
    opened: list[Flow] = []

    def opener() -> Camera:
        opened.append(Flow(hangs_at=3 if not opened else -1))
        return opened[-1]

    with Latest(opener, name="x", timing=SOON, steady=clock) as camera:
        until(lambda: opened[0].number == 3)
        clock.now += 29
        with pytest.raises(DeviceError, match="none in"):
            camera.read()
        assert len(opened) == 1
        clock.now += 2
        assert camera.read().at > 0
        opened[0].number = 200
        opened[0].comes_back.set()
        until(lambda: opened[0].closed == 1)
        assert camera.read().at < 200
        assert len(opened) == 2


def test_an_opener_and_a_close_that_hang_are_given_up_too() -> None:
    clock, release = Clock(), threading.Event()
    opened: list[Camera] = []

    class Sticky(Flow):
        def close(self) -> None:
            release.wait()
            super().close()

    def opener() -> Camera:
        opened.append(Sticky(fails_at=0) if len(opened) == 1 else Flow())
        if len(opened) == 1:
            release.wait()
        return opened[-1]

    with Latest(opener, name="x", timing=SOON, steady=clock) as camera:
        for number in (1, 2):
            with pytest.raises(DeviceError):
                camera.read()
            assert len(opened) == number
            clock.now += 31
        assert camera.read().at > 0
    release.set()


def test_only_so_many_threads_are_given_up_and_the_agent_lives_on() -> None:
    clock, release = Clock(), threading.Event()
    opened: list[threading.Thread] = []
    flows: dict[threading.Thread, Flow] = {}

    def opener() -> Camera:
        opened.append(threading.current_thread())
        release.wait()
        return flows.setdefault(threading.current_thread(), Flow())

    with Latest(opener, name="rtsp://cam/1", timing=SOON, steady=clock, abandoned=2) as camera:
        said = []
        for _ in range(6):
            with pytest.raises(DeviceError) as caught:
                camera.read()
            said.append(str(caught.value))
            clock.now += 31
        assert len(opened) == 3
        assert "driver" in said[-1]
        assert "rtsp://cam/1" in said[-1]
        assert "restart" in caught.value.hint
        release.set()
        until(lambda: not opened[0].is_alive() and not opened[1].is_alive())
        until(lambda: opened[2] in flows and flows[opened[2]].number > 0)
        assert camera.read().at > 0
        assert len(opened) == 3


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_of_a_mistake_is_replaced() -> None:
    opened = []

    def opener() -> Camera:
        opened.append(1)
        return Flow() if len(opened) == 2 else None  # type: ignore[return-value]

    with Latest(opener, name="x", timing=SOON) as camera:
        with pytest.raises(DeviceError, match="none in"):
            camera.read()
        assert camera.read().at > 0


def test_a_camera_that_nobody_asks_is_closed_until_somebody_does() -> None:
    clock = Clock()
    opened: list[Flow] = []

    def opener() -> Camera:
        opened.append(Flow())
        return opened[-1]

    timing = Timing(patience_s=20, rest_s=30)
    with Latest(opener, name="x", timing=timing, steady=clock) as camera:
        camera.read()
        clock.now += 29
        reached = opened[0].number
        until(lambda: opened[0].number > reached + 3)
        assert opened[0].closed == 0
        clock.now += 2
        until(lambda: opened[0].closed == 1)
        clock.now += 300
        assert camera.read().at > 0
        assert [flow.closed for flow in opened] == [1, 0]


def test_the_end_waits_for_a_driver_that_comes_back() -> None:
    inner = Flow(hangs_at=0)
    with Latest(lambda: inner, name="x", timing=Timing(close_s=20)):
        threading.Timer(0.3, inner.comes_back.set).start()
    assert inner.closed == 1


def test_a_hung_camera_does_not_hold_up_the_end() -> None:
    inner = Flow(hangs_at=0)
    camera = Latest(lambda: inner, name="x", timing=SOON)
    begin = time.monotonic()
    camera.close()
    camera.close()
    assert time.monotonic() - begin < 30
    inner.comes_back.set()
    until(lambda: inner.closed == 1)
