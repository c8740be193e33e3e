"""From a `device.yaml` to everything that an agent is made of; every problem at once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edge_agent import discovery
from edge_agent.agent import Agent, Examples, Journal
from edge_agent.classifier import Classifier
from edge_agent.contracts import bundle, config, messages, planogram, yamlfile
from edge_agent.contracts.bundle import Bundle, Manifest
from edge_agent.contracts.config import DeviceConfig, Rules
from edge_agent.contracts.errors import BundleError, ConfigError
from edge_agent.contracts.photos import read_picture
from edge_agent.contracts.planogram import Planogram
from edge_agent.contracts.preprocess import Image
from edge_agent.contracts.yamlfile import Problem, ProblemsError
from edge_agent.hard import HardExamples, Policy
from edge_agent.hard_folder import FOLDER
from edge_agent.launched import launched
from edge_agent.pushed import Place


@dataclass(frozen=True, slots=True)
class Setup:
    """A device whose files have all been read and fit each other."""

    file: Path
    config: DeviceConfig
    planogram: Planogram
    bundle: Bundle
    reference: Image

    def classifier(self) -> Classifier:
        """Load the model, and prove that it computes here what its maker proved.

        Raises:
            BundleError: It does not.
        """
        classifier = Classifier(self.bundle)
        classifier.check_golden()
        return classifier

    def agent(
        self,
        model: Classifier,
        journal: Journal,
        wall: Callable[[float], datetime],
        *,
        examples: Examples | None = None,
    ) -> Agent:
        """Build the agent.

        Args:
            model: Of the bundle, proven.
            journal: Keeps events and memory.
            wall: Turns a moment of the camera's clock into time.
            examples: Looks for crops that are worth a label.
        """
        return Agent(
            store=self.config.store,
            shelf=self.planogram,
            reference=self.reference,
            model=model,
            identity=self.identity,
            policy=self.policy,
            unknown_below=self.unknown_below,
            journal=journal,
            wall=wall,
            examples=examples,
        )

    def hard_examples(self, model: Classifier, wall: Callable[[float], datetime]) -> HardExamples | None:
        """Return what keeps crops that are worth a label; None where that is not wanted.

        Args:
            model: Of the bundle.
            wall: Turns a moment of the camera's clock into time.
        """
        wanted = self.config.hard_examples
        if not wanted.enabled:
            return None
        return HardExamples(
            self.config.state_dir / FOLDER,
            wanted.max_mb * _MB,
            shelf=self.planogram,
            labels=model.labels,
            model=self.identity,
            policy=Policy(self.policy.confirm_s, self.unknown_below),
            wall=wall,
        )

    @property
    def policy(self) -> Rules:
        """The rules; where pictures are rare an answer cannot be younger than they are."""
        rules, interval = self.config.rules, 1 / self.config.camera.fps
        if interval <= RARE_S:
            return rules
        return rules.model_copy(update={"refresh_s": max(rules.refresh_s, _PICTURES_OF_AN_ANSWER * interval)})

    @property
    def place(self) -> Place:
        """Where its planograms are."""
        return place_of(self.config)

    @property
    def identity(self) -> messages.ModelState:
        """The model as snapshots name it."""
        manifest = self.bundle.manifest
        return messages.ModelState(name=manifest.name, version=manifest.version, sha256=self.bundle.sha256)

    @property
    def unknown_below(self) -> float:
        """The confidence under which an answer is "unknown"."""
        return unknown_below(self.config.rules, self.bundle.manifest)


def read(path: Path) -> Setup:
    """Read a `device.yaml` and all that it names.

    Raises:
        ProblemsError: Everything that is wrong in config and planogram.
        BundleError: The bundle alone is wrong.
    """
    document = config.read(path)
    device = document.value
    if device is None:
        raise ProblemsError(document.problems, hint=_HINT)
    started = launched()
    device = device if started is None else started.placed(device)
    problems = [*document.problems, *_unreachable(document, device), *_unheard(document, device)]
    found, broken = _bundle(device)
    labels = found.manifest.label_names if found else None
    shelf = planogram.read(place_of(device).now, known_labels=labels)
    problems += shelf.problems
    if problems or shelf.value is None:
        raise ProblemsError(problems, hint=_HINT)
    if found is None:
        raise broken or BundleError(f"Expected: a bundle at {device.bundle}.")
    return Setup(path, device, shelf.value, found, read_picture(shelf.value.reference))


@dataclass(frozen=True, slots=True)
class Ready:
    """A device that can begin: its model is loaded and proven."""

    setup: Setup
    model: Classifier


def ready(path: Path) -> Ready:
    """Read a `device.yaml` and all that it names, and prove the model.

    Raises:
        ProblemsError: Everything that is wrong in config and planogram.
        BundleError: The bundle is wrong, or does not compute here what it was proven to.
    """
    made = read(path)
    return Ready(made, made.classifier())


def unknown_below(rules: Rules, manifest: Manifest) -> float:
    """Return the confidence under which an answer is "unknown": the device's own, else the bundle's."""
    return manifest.calibration.unknown_below if rules.unknown_below is None else rules.unknown_below


def place_of(device: DeviceConfig) -> Place:
    """Return where a device's planograms are."""
    return Place(device.planogram, device.state_dir)


RARE_S = 5.0
"""Pictures that are further apart than this are rare."""
_PICTURES_OF_AN_ANSWER = 2.5
_MB = 1024 * 1024
_HINT = "`shelfkit agent check --config FILE` shows the same list without starting anything"


def _bundle(device: DeviceConfig) -> tuple[Bundle | None, BundleError | None]:
    try:
        return bundle.read(device.bundle), None
    except BundleError as exc:
        return None, exc


def _unreachable(document: yamlfile.Document[DeviceConfig], device: DeviceConfig) -> list[Problem]:
    """Name a place that updates cannot come from."""
    if device.updates.url is None:
        return []
    # The Update Framework takes a while to import.
    from edge_agent.update.wire import base_url  # noqa: PLC0415

    try:
        base_url(device.updates.url)
    except ConfigError as exc:
        return [document.problem(("updates", "url"), f"{exc} {exc.hint}")]
    return []


def _unheard(document: yamlfile.Document[DeviceConfig], device: DeviceConfig) -> list[Problem]:
    """Name a device that Home Assistant would not hear."""
    if device.home_assistant and not discovery.heard(device.device):
        expected = "letters, digits, - and _ alone where home_assistant is true: it ignores every other name"
        return [document.problem(("device",), f"expected {expected}; received {device.device!r}")]
    return []
