"""The folder that is carried to a store."""

from pathlib import Path

from deploy.broker import RECORDER, BrokerPlan, write_broker
from deploy.fleet import Fleet
from deploy.store.compose import IMAGE, compose, image
from deploy.store.plan import PAGE, StorePlan
from deploy.store.units import units
from edge_agent.contracts.errors import ConfigError, DataError
from edge_agent.contracts.files import written_beside


def write_store(out: Path, plan: StorePlan, fleet: Fleet, consumers: tuple[str, ...] = ()) -> list[Path]:
    """Write everything that a store's machine needs: whole, or not at all.

    Args:
        out: New.
        plan: What it says.
        fleet: Whose certificates are copied into it.
        consumers: Certificate names of those who may listen.

    Returns:
        The files.

    Raises:
        ConfigError: The fleet lacks a certificate.
        DataError: It is there already, or cannot be written.
    """
    if out.exists():
        raise DataError(f"Expected: --out as a new folder. Received: {out}, which is there.")
    texts = {
        **{f"systemd/{name}": text for name, text in units(plan).items()},
        "compose.yaml": compose(plan),
        IMAGE: image(),
    }
    try:
        with written_beside(out) as staged:
            staged.mkdir()
            of_broker = BrokerPlan(store=plan.store, port=plan.port, consumers=consumers)
            write_broker(staged / "broker", of_broker, fleet, at=Path(plan.broker))
            _recorder(staged / "recorder", fleet, (RECORDER, PAGE) if plan.commands else (RECORDER,))
            for name, text in texts.items():
                (staged / name).parent.mkdir(exist_ok=True)
                (staged / name).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise DataError(f"Expected: a place that can be written. Received: {out}: {exc.strerror}.") from exc
    return sorted(path for path in out.rglob("*") if path.is_file())


def _recorder(folder: Path, fleet: Fleet, names: tuple[str, ...]) -> None:
    places = [fleet.service(name) / name for name in names]
    sources = [fleet.ca_certificate, *(at.with_suffix(end) for at in places for end in (".pem", ".key"))]
    (folder / "data").mkdir(parents=True, mode=0o700)
    for source in sources:
        try:
            content = source.read_bytes()
        except OSError as exc:
            raise ConfigError(
                f"Expected: a certificate of {source.stem}. Received: {source}: {exc.strerror}.",
                hint=f"shelfkit deploy fleet service {source.stem}",
            ) from exc
        fleet.write(folder / source.name, content, secret=True)
