"""`shelfkit agent render`: photos, ground truth and video of the rendered shelf."""

from pathlib import Path
from typing import Annotated

import typer

from edge_agent.camera.shelf.files import write_photos, write_scene, write_video
from edge_agent.contracts.command import shown
from edge_agent.contracts.errors import UsageError


def render(
    photos: Annotated[
        Path | None, typer.Option(help="New folder for training photos: one folder for each class.")
    ] = None,
    scene: Annotated[
        Path | None, typer.Option(help="Folder for planogram.yaml, reference.jpg and script.json.")
    ] = None,
    video: Annotated[Path | None, typer.Option(help="File for the stream as a video, .mp4.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pictures.")] = 7,
    count: Annotated[int, typer.Option(min=1, help="Photos of each class.")] = 80,
    fps: Annotated[float, typer.Option(min=0.5, max=60, help="Frames of the video for each second.")] = 10.0,
) -> None:
    """Draw a shelf: photos to train on, its stream as a video, and the truth about that stream.

    The camera `shelf:seed=7` shows the stream of `--scene` and `--video` with seed 7. Photos are
    drawn from another sequence: no packet on them is in any stream.

    \b
    Examples:
      shelfkit agent render --photos photos/
      shelfkit agent render --scene shelf/ --video shelf.mp4 --seed 8
    """  # noqa: D301 - click needs the character itself to keep the lines
    if photos is None and scene is None and video is None:
        raise UsageError(
            "Expected: at least one of --photos, --scene and --video. Received: none of them.",
            hint="for example: shelfkit agent render --photos photos/",
        )
    if photos is not None:
        write_photos(photos, seed=seed, count=count, progress=shown("rendering"))
    if scene is not None:
        write_scene(scene, seed=seed)
    if video is not None:
        write_video(video, seed=seed, fps=fps, progress=shown("rendering"))
