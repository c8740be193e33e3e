"""How far a stream is behind, from nothing but two clocks."""

import math

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.camera.lag import Lag


def run(*frames: tuple[float, float]) -> list[float | None]:
    lag, found = Lag(), []
    for came, made in frames:
        lag = lag.step(came, made)
        found.append(lag.behind_s)
    return found


def test_a_queue_is_caught_up_with_and_then_frames_are_fresh() -> None:
    queue = [(5.0 + 0.001 * turn, 0.04 * turn) for turn in range(20)]
    live = [(5.02 + 0.04 * turn, 0.76 + 0.04 * turn) for turn in range(1, 5)]
    found = run(*queue, *live)
    assert found[:20] == [math.inf] * 20
    assert all(behind is not None and behind < 0.01 for behind in found[20:])


def test_a_stall_is_seen_and_so_is_its_end() -> None:
    live = [(10 + 0.04 * turn, 0.04 * turn) for turn in range(10)]
    # Nobody takes a frame for three seconds; then they come one after another.
    queue = [(13.4 + 0.001 * turn, 0.4 + 0.04 * turn) for turn in range(75)]
    found = run(*live, *queue, (13.475 + 0.04, 3.4 + 0.04))
    assert found[10] is not None
    assert 2.9 < found[10] < 3.1
    assert found[-1] is not None
    assert found[-1] < 0.1


def test_a_decoder_that_is_too_slow_falls_behind() -> None:
    found = run(*[(0.08 * turn, 0.04 * turn) for turn in range(100)])
    assert found[-1] is not None
    assert 3.8 < found[-1] < 4.0


def test_clocks_that_drift_are_no_delay() -> None:
    found = run(*[(float(turn), turn * (1 - 0.0005)) for turn in range(50_000)])
    assert max(behind for behind in found[1:] if behind is not None) < 0.01


def test_a_clock_that_stands_still_or_jumps_back_says_nothing() -> None:
    assert run((0, 0), (0.1, 0), (5, 0), (6, 0))[2:] == [None, None]
    assert run((0, 900), (1, 901), (2, 5), (3, 6))[2:] == [None, 0.0]


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(-1e6, 1e6)), max_size=30))
def test_it_is_never_ahead(frames: list[tuple[float, float]]) -> None:
    frames.sort(key=lambda pair: pair[0])
    assert all(behind is None or behind >= 0 for behind in run(*frames))
