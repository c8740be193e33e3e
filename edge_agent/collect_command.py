"""`shelfkit agent collect`: crops to label and train on, of a source or of what a device has kept."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

from edge_agent import hard_export
from edge_agent.camera.base import Frame
from edge_agent.camera.open import open_camera
from edge_agent.collect import collect as collect_crops
from edge_agent.collect import frames, live_frames, read_spans
from edge_agent.contracts import config, planogram, sources
from edge_agent.contracts.command import print_json, shown
from edge_agent.contracts.config import Camera, Polygon
from edge_agent.contracts.dataset import INDEX
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.planogram import Planogram
from edge_agent.hard_folder import FOLDER
from edge_agent.setup import place_of

_FPS = 2.0
_EVERY_S = 10.0
_TO_LABEL = "to be labelled"


def collect(  # noqa: PLR0913, PLR0917 - one for each option
    out: Annotated[Path, typer.Option(help="New folder for the crops and their index.csv.")],
    shelf: Annotated[Path | None, typer.Option("--planogram", help="Where the slots are.")] = None,
    source: Annotated[
        str | None, typer.Option(help="file:CLIP, folder:DIR, or a camera as in device.yaml.")
    ] = None,
    device: Annotated[
        Path | None,
        typer.Option("--config", help="A device.yaml: its planogram, camera, rotation and privacy masks."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="CSV of slot,from,until,label (seconds): label crops at once.")
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(min=0.01, max=60, help="Frames for each second.", show_default="the config's, else 2"),
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Seconds between crops of a slot that does not change; 0: a crop of each frame.",
            show_default="10; with --labels 0",
        ),
    ] = None,
    until: Annotated[
        float | None, typer.Option(min=0, help="Stop after this many seconds; 0: at the end.")
    ] = None,
    hard: Annotated[
        bool, typer.Option("--hard", help="Export the hard examples that the device of --config has kept.")
    ] = False,
    clear: Annotated[
        bool, typer.Option("--clear", help="With --hard: then remove from the device what was exported.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Cut every slot out of a clip or camera, or export a device's hard examples, for training.

    Crops are cut as the device cuts them, while the slot stands still and the camera has no fault.
    Without --labels the column `label` of index.csv is left for you to fill in; `empty` is an empty
    slot. --hard works while the agent runs.

    \b
    Examples:
      shelfkit agent collect --planogram planogram.yaml --source file:clip.mp4 --out crops
      shelfkit agent collect --config device.yaml --until 3600 --every 60 --out crops
      shelfkit agent collect --planogram planogram.yaml --source file:clip.mp4 --labels seen.csv --out crops
      shelfkit agent collect --hard --config device.yaml --out hard --clear
    """  # noqa: D301 - click needs the character itself to keep the lines
    if hard:
        _refuse_together({"--planogram": shelf, "--source": source, "--labels": labels})
        _refuse_together({"--fps": fps, "--every": every, "--until": until})
        _hard(device, out, clear=clear, as_json=as_json)
        return
    if clear:
        raise UsageError("Expected: --clear with --hard. Received: no --hard.")
    view = _view(shelf, source, device, fps)
    spans = read_spans(labels, view.shelf) if labels else None
    spacing = every if every is not None else (0.0 if labels else _EVERY_S)
    with _opened(view, until or inf) as seen:
        found = collect_crops(seen, view.shelf, out, every_s=spacing, spans=spans, name=view.name)
    if as_json:
        counts: dict[str, object] = {"labels": found.labels, "frames": found.frames, "faults": found.faults}
        print_json({"out": str(out), "index": str(out / INDEX), "crops": found.labels.total(), **counts})
        return
    told = ", ".join(f"{count} {label or _TO_LABEL}" for label, count in sorted(found.labels.items()))
    faults = "".join(f"; {count} frames left out: {fault}" for fault, count in sorted(found.faults.items()))
    typer.echo(f"{out}: {found.labels.total()} crops ({told}){faults}; index: {out / INDEX}")


@dataclass(frozen=True, slots=True)
class _View:
    """What is looked at; `name` is part of the groups of crops."""

    shelf: Planogram
    camera: Camera
    masks: tuple[Polygon, ...]
    name: str


def _view(shelf: Path | None, source: str | None, device: Path | None, fps: float | None) -> _View:
    """Put together what is looked at: a planogram and a source, or a config and what replaces parts of it."""
    if device is None:
        if shelf is None or source is None:
            raise UsageError(
                "Expected: --planogram and --source, or --config. Received: "
                + ("neither." if shelf is None and source is None else "one of the first two."),
            )
        camera = config.camera_of({"source": source, "fps": fps or _FPS})
        return _View(planogram.read(shelf).require(), camera, (), Path(sources.shown(source)).stem)
    _refuse_together({"--planogram": shelf}, "--config, which names a planogram")
    made = config.read(device).require()
    asked = made.camera.model_dump() | {"fps": fps or made.camera.fps, "source": source or made.camera.source}
    camera = config.camera_of(asked)
    name = Path(sources.shown(source)).stem if source else made.device
    return _View(planogram.read(place_of(made).now).require(), camera, made.privacy.masks, name)


def _refuse_together(options: dict[str, object], other: str = "--hard") -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(f"Expected: no {', '.join(given)} with {other}. Received: both.")


@contextmanager
def _opened(view: _View, until_s: float) -> Iterator[Iterable[Frame]]:
    """Open the camera; a rendered shelf has no end of its own, and is looked at as a camera is."""
    live = not view.camera.source.startswith(("file:", "folder:"))
    if live and until_s == inf:
        raise UsageError("Expected: --until for a source without an end. Received: none.")
    with open_camera(view.camera, live=live, masks=view.masks) as camera:
        seen = live_frames(camera, until_s, 1 / view.camera.fps) if live else frames(camera, until_s)
        console = Console(stderr=True)
        # How long a clip is, nobody knows before its end.
        total = None if until_s == inf else round(until_s * view.camera.fps)
        yield track(seen, "collecting", total=total, console=console, disable=not console.is_terminal)


def _hard(device: Path | None, out: Path, *, clear: bool, as_json: bool) -> None:
    if device is None:
        raise UsageError("Expected: --config with --hard. Received: none.")
    made = config.read(device).require()
    folder = made.state_dir / FOLDER
    found = hard_export.export(folder, out, device=made.device, progress=shown("exporting"))
    if clear:
        hard_export.clear(folder, found)
    if as_json:
        counts: dict[str, object] = {"reasons": found.reasons, "damaged": found.damaged, "cleared": clear}
        print_json({"out": str(out), "index": str(out / INDEX), "crops": len(found.names), **counts})
        return
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(found.reasons.items()))
    damaged = f"; {found.damaged} damaged left out" if found.damaged else ""
    removed = "; removed from the device" if clear else ""
    typer.echo(
        f"{out}: {len(found.names)} crops {_TO_LABEL} ({told}){damaged}{removed}; index: {out / INDEX}"
    )
