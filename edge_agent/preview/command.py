"""`shelfkit agent preview`: the picture of a camera in a browser, while somebody aims and focuses it."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from edge_agent.camera.open import open_camera
from edge_agent.contracts.errors import UsageError
from edge_agent.preview.door import TRIES, Door
from edge_agent.preview.scene import Scene, scene_of_config, scene_of_source
from edge_agent.preview.server import House, served
from edge_agent.preview.watch import Watch

_LOOPBACK, _EVERYWHERE = "127.0.0.1", "0.0.0.0"  # noqa: S104 - asked for, for minutes, behind a code
_PORT = 9470
_MOST_MINUTES = 10
_LEAST_FPS = 5.0
_LOOK_S = 0.2


def preview(
    config: Annotated[Path | None, typer.Option(help="The device's device.yaml.")] = None,
    source: Annotated[str, typer.Option(help="A camera as in device.yaml, instead of the config's.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on; 0: any that is free.")] = _PORT,
    lan: Annotated[
        bool, typer.Option("--lan", help="Let one other device of the network look, with a code.")
    ] = False,
    minutes: Annotated[
        int, typer.Option(min=1, max=_MOST_MINUTES, help="After which --lan ends.")
    ] = _MOST_MINUTES,
) -> None:
    """Show the camera's picture in a browser, to aim and focus it.

    The page shows slots, what the model says of them, sharpness, light, and how far the shelf is from
    its place in the reference picture. Private places are black. It is there for this machine alone;
    with --lan for one browser in the network that knows the code printed here. Ctrl-C ends it.

    \b
    Examples:
      shelfkit agent preview --config device.yaml
      shelfkit agent preview --config device.yaml --lan
      shelfkit agent preview --source v4l2:/dev/video0
    """  # noqa: D301 - click needs the character itself to keep the lines
    if config is not None:
        scene = scene_of_config(config, source)
    elif source:
        scene = scene_of_source(source)
    else:
        raise UsageError("Expected: --config, --source, or both. Received: neither.")
    for problem in scene.problems:
        typer.echo(f"not shown yet: {problem}", err=True)
    show(scene, port=port, lan_s=60.0 * minutes if lan else None)


def show(
    scene: Scene, *, port: int, lan_s: float | None, steady: Callable[[], float] = time.monotonic
) -> None:
    """Serve the page until Ctrl-C, or until a session in the network is over.

    Args:
        scene: What to show.
        port: To listen on.
        lan_s: For how long the network may look; None: this machine alone, without an end.
        steady: The clock.

    Raises:
        ConfigError: The source names something that there is not.
        DeviceError: The camera cannot be opened.
        UsageError: The port is taken, or too many wrong codes were tried.
    """
    # Somebody turns a lens: what is enough for stock is too slow for that.
    faster = scene.camera.model_copy(update={"fps": max(scene.camera.fps, _LEAST_FPS)})
    with open_camera(faster, live=True, masks=scene.masks) as camera, Watch(camera, scene) as watch:
        door = None if lan_s is None else Door.fresh(ends=steady() + lan_s)
        house = House(watch, door, steady=steady) if door is None else House(watch, door, _names(), steady)
        with served(house, _LOOPBACK if door is None else _EVERYWHERE, port) as taken:
            typer.echo(f"http://{_LOOPBACK if door is None else own_address()}:{taken}/")
            if door is not None:
                typer.echo(f"code: {door.code} (for one browser; {(lan_s or 0) / 60:g} min)")
            while door is None or not door.over(steady()):
                watch.check()
                time.sleep(_LOOK_S)
    if door.broken:
        raise UsageError(
            f"Expected: the code. Received: {TRIES} wrong ones; the preview has ended.",
            hint="start it again for a new code",
        )
    typer.echo("the time is over: the preview has ended")


def _names() -> frozenset[str]:
    """Return the names under which a browser may ask for this machine."""
    own = socket.gethostname().lower()
    return frozenset({"localhost", own, f"{own.partition('.')[0]}.local"})


def own_address() -> str:
    """Return the address under which the network knows this machine, its name where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Nothing is sent: the system only says from where it would (192.0.2.1 is for examples).
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
