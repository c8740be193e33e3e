"""`device.yaml`: everything that one shelf device is told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError

from edge_agent.contracts import yamlfile
from edge_agent.contracts.errors import UsageError
from edge_agent.contracts.identifiers import DeviceId, StoreId
from edge_agent.contracts.sources import shown
from edge_agent.contracts.times import zone_named
from edge_agent.contracts.validation import explain
from edge_agent.contracts.yamlfile import Document, Section

CAMERA_SCHEMES = ("v4l2", "rtsp", "rtsps", "http", "https", "file", "folder", "picamera", "shelf")
Polygon = Annotated[list[tuple[int, int]], Field(min_length=3)]


def _camera_source(text: str) -> str:
    scheme = urlsplit(text).scheme
    if scheme not in CAMERA_SCHEMES:
        schemes = ", ".join(CAMERA_SCHEMES)
        msg = f"expected a source that starts with one of {schemes}; received {shown(text)!r}"
        raise ValueError(msg)
    return text


def _zone(name: str) -> str:
    if zone_named(name) is None:
        msg = f"expected a time zone, such as Europe/Berlin; received {name!r}"
        raise ValueError(msg)
    return name


class Camera(Section):
    """Which camera, and how to ask it for pictures; width and height null: as the source gives."""

    source: Annotated[str, AfterValidator(_camera_source)]
    width: Annotated[int, Field(ge=64, le=8192)] | None = None
    height: Annotated[int, Field(ge=64, le=8192)] | None = None
    fps: Annotated[float, Field(gt=0, le=60)] = 2.0
    rotate: Literal[0, 90, 180, 270] = 0


class Rules(Section):
    """When a change counts."""

    confirm_s: Annotated[float, Field(ge=0, le=3600)] = 3.0
    clear_s: Annotated[float, Field(ge=0, le=3600)] = 2.0
    refresh_s: Annotated[float, Field(gt=0, le=86400)] = 60.0
    unknown_below: Annotated[float, Field(ge=0, le=1)] | None = None


class Privacy(Section):
    """What must never be seen or leave; masks are polygons in pixels of the raw frame."""

    masks: tuple[Polygon, ...] = ()
    snapshots: bool = False


class HardExamples(Section):
    """Crops that the model was unsure of, kept on the device."""

    enabled: bool = False
    max_mb: Annotated[int, Field(ge=1)] = 64


class Tls(Section):
    """Mutual TLS; paths relative to the file that names them."""

    ca: Path
    certificate: Path
    key: Path


class Broker(Section):
    """The store's MQTT broker."""

    host: Annotated[str, Field(min_length=1)]
    port: Annotated[int, Field(ge=1, le=65535)] = 8883
    tls: Tls | None = None


class Delivery(Section):
    """How events are kept until somebody has them."""

    confirm: Literal["recorder", "broker"] = "recorder"
    ack_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    max_mb: Annotated[int, Field(ge=1)] = 256
    max_days: Annotated[int, Field(ge=1)] = 30


class Updates(Section):
    """Where over-the-air updates come from; null: nowhere. `zone`: of their window; null: the machine's."""

    url: str | None = None
    zone: Annotated[str, AfterValidator(_zone)] | None = None


class Metrics(Section):
    """The Prometheus endpoint; port 0: none."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 9464


class DeviceConfig(Section):
    """One shelf device. Paths are absolute once `read` returned it."""

    device: DeviceId
    store: StoreId
    state_dir: Path
    bundle: Path
    camera: Camera
    planogram: Path
    rules: Rules = Rules()
    privacy: Privacy = Privacy()
    hard_examples: HardExamples = HardExamples()
    broker: Broker
    delivery: Delivery = Delivery()
    updates: Updates = Updates()
    home_assistant: bool = False
    metrics: Metrics = Metrics()


def camera_of(values: Mapping[str, object], *, hint: str = "") -> Camera:
    """Return the camera that the options of a command name.

    Args:
        values: As `camera` in `device.yaml`.
        hint: What to do where there is no such camera.

    Raises:
        UsageError: There is none; of its address nothing is said that is secret.
    """
    try:
        return Camera.model_validate(values)
    except ValidationError as exc:
        raise UsageError(
            f"Expected: a camera as in device.yaml. Received: {explain(exc)}.", hint=hint
        ) from exc


def read(path: Path) -> Document[DeviceConfig]:
    """Read a `device.yaml`; every problem is in the document that comes back.

    Relative paths in it (also those in `file:` and `folder:` sources) are taken from its folder.
    """
    document = yamlfile.read(path, DeviceConfig)
    if document.value is None:
        return document
    return Document(path, document.tree, _absolute(document.value, path.resolve().parent))


def _absolute(config: DeviceConfig, folder: Path) -> DeviceConfig:
    scheme, _, rest = config.camera.source.partition(":")
    camera = config.camera
    if scheme in {"file", "folder"}:
        camera = camera.model_copy(update={"source": f"{scheme}:{folder / rest}"})
    broker = config.broker
    if broker.tls is not None:
        tls = {name: folder / getattr(broker.tls, name) for name in Tls.model_fields}
        broker = broker.model_copy(update={"tls": Tls(**tls)})
    places = {name: folder / getattr(config, name) for name in ("state_dir", "bundle", "planogram")}
    return config.model_copy(update={"camera": camera, "broker": broker, **places})
