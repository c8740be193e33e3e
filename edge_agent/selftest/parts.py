"""The files of a device: config, planogram and bundle, each as far as it can be used."""

from dataclasses import dataclass, field
from pathlib import Path

from edge_agent import setup
from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle, config, planogram
from edge_agent.contracts.bundle import Bundle
from edge_agent.contracts.config import DeviceConfig
from edge_agent.contracts.errors import BundleError, ConfigError
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.preprocess import Image
from edge_agent.contracts.yamlfile import Problem, ProblemsError
from edge_agent.selftest.finding import Check, Finding
from edge_agent.sight import reference_of

CONFIG = Check("config", ConfigError.exit_code, "a device.yaml without problems")
PLANOGRAM = Check("planogram", ConfigError.exit_code, "a planogram that fits its picture and the bundle")
BUNDLE = Check("bundle", BundleError.exit_code, "a bundle whose every file has its hash")
GOLDEN = Check("model", BundleError.exit_code, "the scores that the bundle's maker has proven")

_MEND = "mend the lines that are named"
_AGAIN = "copy the bundle to the device again"


@dataclass(frozen=True, slots=True)
class Parts:
    """What could be read."""

    device: DeviceConfig | None = None
    shelf: Planogram | None = None
    reference: Image | None = None
    bundle: Bundle | None = None
    findings: list[Finding] = field(default_factory=list)


def read_parts(path: Path) -> Parts:
    """Read a `device.yaml` and all that it names, and say what of it is wrong."""
    problems = _problems(path)
    own = [problem for problem in problems if problem.file == path]
    document = config.read(path)
    device = document.value
    findings = [_judged(CONFIG, own, f"{device.device} in store {device.store}" if device else "")]
    if device is None:
        findings += [check.skipped("device.yaml cannot be read") for check in (PLANOGRAM, BUNDLE)]
        return Parts(findings=findings)
    shelf = planogram.read(setup.place_of(device).now).value
    found, broken = _bundle(device)
    slots = f"shelf {shelf.shelf}, {len(shelf.slots)} slots" if shelf else ""
    findings.append(_judged(PLANOGRAM, [problem for problem in problems if problem not in own], slots))
    findings.append(broken or BUNDLE.passed(_named(found)))
    return Parts(device, shelf, reference_of(shelf), found, findings)


def _problems(path: Path) -> list[Problem]:
    """Return what the agent itself would complain of."""
    try:
        setup.read(path)
    except ProblemsError as exc:
        return list(exc.problems)
    except BundleError:
        # Told by the check of the bundle.
        return []
    return []


def _judged(check: Check, problems: list[Problem], good: str) -> Finding:
    if not problems:
        return check.passed(good)
    return check.failed("; ".join(map(str, problems)), _MEND)


def _bundle(device: DeviceConfig) -> tuple[Bundle | None, Finding | None]:
    try:
        return bundle.read(device.bundle), None
    except BundleError as exc:
        return None, BUNDLE.failed(str(exc), exc.hint or _AGAIN)


def _named(found: Bundle | None) -> str:
    return (
        f"{found.manifest.name} {found.manifest.version}, {len(found.manifest.files)} files" if found else ""
    )


def check_model(parts: Parts) -> list[Finding]:
    """Let the model compute what its maker proved."""
    if parts.bundle is None:
        return [GOLDEN.skipped("there is no bundle to try")]
    try:
        Classifier(parts.bundle).check_golden()
    except BundleError as exc:
        return [GOLDEN.failed(str(exc), exc.hint or _AGAIN)]
    count = len(parts.bundle.golden()[0])
    return [GOLDEN.passed(f"{count} of {count} golden vectors, as proven")]
