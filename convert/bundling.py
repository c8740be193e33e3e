"""From a float network to a bundle: compress, quantize, judge, package."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from convert import calibration, layers, package, parity, pixels, quantize
from convert.device import Device
from convert.parity import Answers
from convert.recipe import Budget, FloatForm, Qat, Quantizer, Recipe
from convert.source import Network, Source
from edge_agent.classifier import TfliteModel
from edge_agent.contracts import bundle
from edge_agent.contracts.errors import DataError, GateError
from edge_agent.contracts.scoring import Floats, accuracy, softmax

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Form:
    """One form of the model, measured on the holdout; agreement with the float one as a fraction."""

    form: str
    size: int
    packed: int
    accuracy: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle, and what else was measured on the way."""

    bundle: bundle.Bundle
    forms: list[Form]


class NotAsGoodError(GateError):
    """The gate said no.

    Args:
        lost: Everything that is over budget.
        card: The figures.
        losses: Of each operator, worst first.
        hint: What to try.
    """

    def __init__(
        self, lost: list[str], card: bundle.Scorecard, losses: list[layers.Loss], *, hint: str
    ) -> None:
        super().__init__(
            f"Expected: an int8 model as good as the float one on {card.n} photos. "
            f"Received: {'; '.join(lost)}.",
            hint=hint,
        )
        self.lost, self.card, self.losses = lost, card, losses


@dataclass(frozen=True, slots=True)
class _Exact:
    """What the float network gives for each set of pictures: float32, (n, classes)."""

    holdout: Floats
    calibration: Floats


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A quantized model with the gate's figures."""

    how: Literal["ptq", "qat"]
    content: bytes
    device: Device
    temperature: float
    card: bundle.Scorecard
    lost: list[str]


def make(
    source: Source,
    out: Path,
    *,
    recipe: Recipe,
    budget: Budget,
    bundle_version: str,
    shown: NDArray[np.uint8] | None,
    told: Told,
) -> Made:
    """Make a bundle.

    Args:
        source: What to make it of.
        out: New.
        recipe: What is done to the weights.
        budget: What the gate allows.
        bundle_version: Of the bundle.
        shown: Pictures to choose the golden vectors from, uint8 (n, height, width, 3) RGB: a bundle
            carries some; None: the calibration set.
        told: Takes a line for each step.

    Raises:
        DataError: The network or the pictures cannot be used.
        NotAsGoodError: The int8 model is not as good as the float one; nothing was written.
        GateError: The network has no int8 form, or cannot be trained as the recipe says.
        BundleError: It cannot be written.
    """
    if not len(source.holdout.ids):
        raise DataError("Expected: a holdout to judge the int8 model by. Received: no photo.")
    chosen = calibration.chosen(source.calibration, source.holdout)
    source = replace(source, calibration=chosen)
    exact = _Exact(
        _finite(source.network.scores(source.holdout.images)), source.network.scores(chosen.images)
    )
    network = _compressed(source, recipe, told)
    made = _good_enough(source, network, exact, recipe, budget, told)
    forms = [_form(name, source, exact) for name in recipe.compared]
    candidates = chosen.images if shown is None else shown
    golden = package.goldens(candidates, made.device.scores(candidates), made.device.output.scale)
    described = _manifest(source, made, recipe, golden.tolerance, bundle_version)
    return Made(package.write(out, made.content, described, golden), [_int8_form(made), *forms])


def _finite(scores: Floats) -> Floats:
    if not np.isfinite(scores).all():
        raise DataError(
            "Expected: scores that are numbers. Received: NaN or infinity from the float network.",
            hint="its weights are damaged, or training diverged: train again with a lower --learning-rate",
        )
    return scores


def _compressed(source: Source, recipe: Recipe, told: Told) -> Network:
    if recipe.sparsity is None and recipe.clusters is None:
        return source.network
    # Brings a second Keras along, which takes seconds to import.
    from convert import compress  # noqa: PLC0415

    images, seed = source.calibration.images, source.seed
    if recipe.sparsity is not None:
        told(f"pruning {100 * recipe.sparsity:g} % of the weights")
        return compress.pruned(source.network, images, recipe.sparsity, seed=seed)
    assert recipe.clusters is not None  # noqa: S101 - said above, for the type checker
    told(f"clustering each layer's weights into {recipe.clusters} values")
    return compress.clustered(source.network, images, recipe.clusters, seed=seed)


def _good_enough(
    source: Source, network: Network, exact: _Exact, recipe: Recipe, budget: Budget, told: Told
) -> _Attempt:
    """Return the first attempt that the gate lets through."""
    ways: dict[Qat, tuple[Literal["ptq", "qat"], ...]] = {
        "auto": ("ptq", "qat"),
        "always": ("qat",),
        "never": ("ptq",),
    }
    refused: _Attempt | None = None
    untrainable = ""
    for how in ways[recipe.qat]:
        try:
            content = _quantized(source, network, how, recipe, told)
        except GateError as exc:
            if refused is None:
                raise
            untrainable = f"; --qat cannot help: {exc}"
            break
        told(f"comparing with the float model on {len(source.holdout.ids)} photos that neither has seen")
        attempt = _judged(source, content, how, exact, budget)
        if not attempt.lost:
            return attempt
        told(f"refused after {how}: {'; '.join(attempt.lost)}")
        if refused is None or len(attempt.lost) <= len(refused.lost):
            refused = attempt
    assert refused is not None  # noqa: S101 - there is one way at least
    told("looking for the layers that lose most")
    losses = layers.losses(network, source.calibration.images)
    raise NotAsGoodError(refused.lost, refused.card, losses, hint=_advice(recipe, losses) + untrainable)


def _advice(recipe: Recipe, losses: list[layers.Loss]) -> str:
    worst = ", ".join(f"{loss.layer} ({100 * loss.share:.1f} %)" for loss in losses[:3])
    tried = "" if recipe.qat != "never" else "--qat auto, "
    return (
        f"layers that lose most: {worst}. Try {tried}more photos or a longer training, or another preset; "
        "where the loss is one that you can live with, raise the budget that was exceeded"
    )


def _quantized(
    source: Source, network: Network, how: Literal["ptq", "qat"], recipe: Recipe, told: Told
) -> bytes:
    images = source.calibration.images
    if how == "ptq":
        told(f"quantizing with {len(images)} training photos")
        content = _calibrated(network, images, recipe.quantizer)
    else:
        from convert import qat  # noqa: PLC0415 - a second Keras, which takes seconds to import

        told(f"training with quantization on {len(images)} training photos")
        kept: qat.Kept | None = "sparsity" if recipe.sparsity else "clusters" if recipe.clusters else None
        content = qat.int8(network, source.network, images, seed=source.seed, kept=kept)
    quantize.require_int8(content)
    if not network.pixel_offset and network.pixel_scale == 1 / 255:
        quantize.require_pixels(content)
    return content


def _calibrated(network: Network, images: NDArray[np.uint8], quantizer: Quantizer) -> bytes:
    if quantizer == "tensorflow":
        return quantize.int8(network, images)
    from convert import litert  # noqa: PLC0415 - only where it is asked for

    return litert.int8(network, images)


def _judged(
    source: Source, content: bytes, how: Literal["ptq", "qat"], exact: _Exact, budget: Budget
) -> _Attempt:
    device = _device(content, source.network)
    scores, temperature = device.scores(source.holdout.images), source.temperature
    float32, int8 = Answers(exact.holdout, exact.holdout), Answers(scores, scores)
    if source.network.output == "logits":
        answers = device.scores(source.calibration.images)
        temperature = parity.matched_temperature(exact.calibration, answers, source.temperature)
        float32 = Answers(exact.holdout, softmax(exact.holdout, source.temperature))
        int8 = Answers(scores, softmax(scores, temperature))
    card = parity.compare(source.holdout.labels, float32, int8, source.labels)
    return _Attempt(how, content, device, temperature, card, parity.over_budget(card, budget))


def _device(content: bytes, network: Network) -> Device:
    return Device(TfliteModel(content), pixels.Pixels(network.pixel_scale, network.pixel_offset))


def _form(name: FloatForm, source: Source, exact: _Exact) -> Form:
    content = quantize.float_form(source.network, name)
    scores = _device(content, source.network).scores(source.holdout.images)
    same = scores.argmax(axis=1) == exact.holdout.argmax(axis=1)
    right = accuracy(source.holdout.labels, scores)
    return Form(name, len(content), package.packed_bytes(content), right, float(same.mean()))


def _int8_form(made: _Attempt) -> Form:
    packed = package.packed_bytes(made.content)
    return Form("int8", len(made.content), packed, made.card.int8.accuracy, made.card.agreement)


def _manifest(
    source: Source, made: _Attempt, recipe: Recipe, tolerance: float, bundle_version: str
) -> bundle.Manifest:
    return bundle.Manifest(
        name=source.name,
        version=bundle_version,
        files={},
        labels=source.classes,
        input=made.device.spec,
        output=bundle.OutputSpec(kind=source.network.output),
        calibration=bundle.Calibration(temperature=made.temperature, unknown_below=source.unknown_below),
        golden=bundle.GoldenSpec(tolerance=tolerance),
        scorecard=made.card,
        provenance=bundle.Provenance(
            run_sha256=source.run_sha256,
            dataset_sha256=source.dataset_sha256,
            packages=package.packages(),
            quantization=made.how,
            quantizer=recipe.quantizer if made.how == "ptq" else "tensorflow",
            calibration_sha256=calibration.content_hash(source.calibration.ids),
            calibration_n=len(source.calibration.ids),
            sparsity=recipe.sparsity,
            clusters=recipe.clusters,
        ),
    )
