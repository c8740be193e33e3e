"""What there is to aim at: a camera for certain; planogram, reference picture and model where they are."""

from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle, config, planogram
from edge_agent.contracts.config import Camera, DeviceConfig, Polygon
from edge_agent.contracts.errors import BundleError
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.preprocess import Image
from edge_agent.contracts.yamlfile import ProblemsError
from edge_agent.setup import place_of, unknown_below
from edge_agent.sight import reference_of


@dataclass(frozen=True, slots=True)
class Scene:
    """A camera, and what of the rest can be used already.

    Attributes:
        name: Of the device, for people.
        camera: Settings.
        masks: Private places, px of the raw frame.
        shelf: The planogram.
        reference: Its picture: uint8, (height, width, 3), BGR.
        model: Tells labels from crops.
        unknown_below: Confidence under which an answer is "unknown".
        problems: Why something is missing.
    """

    name: str
    camera: Camera
    masks: tuple[Polygon, ...] = ()
    shelf: Planogram | None = None
    reference: Image | None = None
    model: Classifier | None = None
    unknown_below: float = 0.0
    problems: list[str] = field(default_factory=list)


def scene_of_source(source: str) -> Scene:
    """Return a scene with nothing but a camera.

    Raises:
        UsageError: The source is none.
    """
    return Scene(source.partition(":")[0], config.camera_of({"source": source}))


def scene_of_config(path: Path, source: str = "") -> Scene:
    """Return what a `device.yaml` names, as far as it is right.

    Args:
        path: Of the `device.yaml`.
        source: Instead of the camera that it names.

    Raises:
        ProblemsError: It cannot be read: without its masks no picture may be shown.
        UsageError: The source is none.
    """
    document = config.read(path)
    if document.value is None:
        raise ProblemsError(document.problems, hint="`--source` alone shows a camera without any file")
    device = document.value
    asked = device.camera.model_dump() | {"source": source or device.camera.source}
    problems: list[str] = []
    model = _model(device, problems)
    shelf = planogram.read(place_of(device).now, known_labels=model.labels if model else None)
    problems += map(str, shelf.problems)
    return Scene(
        name=device.device,
        camera=config.camera_of(asked),
        masks=device.privacy.masks,
        shelf=shelf.value,
        reference=reference_of(shelf.value),
        model=model,
        unknown_below=unknown_below(device.rules, model.manifest) if model else 0.0,
        problems=problems,
    )


def _model(device: DeviceConfig, problems: list[str]) -> Classifier | None:
    try:
        return Classifier(bundle.read(device.bundle))
    except BundleError as exc:
        problems.append(f"{device.bundle}  {exc}")
        return None
