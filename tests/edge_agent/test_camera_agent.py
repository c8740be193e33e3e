"""An agent whose network camera dies in a frame, falls silent, and comes back to another shelf."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_agent.camera.shelf.layout import places
from edge_agent.camera.shelf.scene import Copy, shelf
from tests.brokers import Mosquitto
from tests.conftest import write_device
from tests.edge_agent.agents import Running, running
from tests.rtsp import NetworkCamera

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

_NOISES = 5


class ShelfOnTheNetwork(NetworkCamera):
    """Shows a rendered shelf, with other noise in each frame.

    Args:
        http: Speak HTTP multipart instead of RTSP.
    """

    def __init__(self, *, http: bool) -> None:
        super().__init__(fps=10, http=http)
        rng = np.random.default_rng(5)
        self._goods: dict[str, Copy | None] = {
            slot: Copy.picked(place.product, rng) for slot, place in places().items()
        }
        self.show()

    def show(self, *, without: str | None = None) -> None:
        """Show the shelf, with one slot empty from now on."""
        goods = {slot: None if slot == without else copy for slot, copy in self._goods.items()}
        picture, rng = shelf(goods), np.random.default_rng(1)
        noisy = [cv2.add(picture, rng.integers(0, 6, picture.shape, np.uint8)) for _ in range(_NOISES)]
        self._shown = [
            cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes() for image in noisy
        ]

    def _picture(self, number: int) -> bytes:
        return self._shown[number % _NOISES]


def fault(agent: Running, kind: str) -> str:
    """Return the fault of the next camera event of a kind."""
    event = agent.hear(lambda leaf, _: leaf == f"event/{kind}", kind)
    return str(event["data"]["fault"])


@pytest.mark.slow
@pytest.mark.parametrize("http", [False, True], ids=["RTSP", "HTTP"])
def test_a_camera_that_dies_and_comes_back_costs_no_event(
    mosquitto: Mosquitto, device: Path, bundle_folder: Path, http: bool
) -> None:
    with ShelfOnTheNetwork(http=http) as camera:
        source = f'{{source: "{camera.url()}", fps: 4}}'
        config = write_device(device, bundle_folder, port=mosquitto.port, camera=source)
        with running(mosquitto, config) as agent:
            full = agent.state(lambda state: all(slot.get("state") for slot in state["slots"].values()))
            assert {slot["state"] for slot in full["slots"].values()} == {"present"}
            camera.die_in_a_frame()
            assert fault(agent, "camera-fault") == "lost"
            stale = agent.now(lambda state: state["camera"]["faults"] == ["lost"])
            assert all(slot["stale"] and slot["state"] == "present" for slot in stale["slots"].values())
            camera.show(without="B2")
            camera.start()
            assert fault(agent, "camera-fault-cleared") == "lost"
            changed = agent.hear(lambda leaf, _: leaf == "event/slot-changed", "change")
            assert (changed["data"]["slot"], changed["data"]["state"]) == ("B2", "empty")
            camera.silent.set()
            assert fault(agent, "camera-fault") == "lost"
            camera.silent.clear()
            assert fault(agent, "camera-fault-cleared") == "lost"
            assert agent.health(status="online")["missed_frames"] > 0
            # Nobody acknowledges here, so it is sent again and again.
            assert len({value["id"] for leaf, value in agent.said if leaf == "event/slot-changed"}) == 1
