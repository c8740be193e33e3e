"""Everything that decides what a training run produces."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from edge_agent.contracts.errors import UsageError

Preset = Literal["shelf-s", "shelf-m", "shelf-32", "article-cifar", "article-64"]
PRESETS: tuple[Preset, ...] = get_args(Preset)
Optimizer = Literal["adamw", "adam", "sgd"]
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)
Loss = Literal["cross-entropy", "mean-squared-error"]
LOSSES: tuple[Loss, ...] = get_args(Loss)
Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Backend = Literal["tensorflow", "jax"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
Weights = Literal["none", "imagenet"]
WEIGHTS: tuple[Weights, ...] = get_args(Weights)
Distribute = Literal["none", "devices", "workers"]
DISTRIBUTIONS: tuple[Distribute, ...] = get_args(Distribute)

_CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": OPTIMIZERS,
    "loss": LOSSES,
    "precision": PRECISIONS,
    "backend": BACKENDS,
    "weights": WEIGHTS,
    "distribute": DISTRIBUTIONS,
}
_RANGES: dict[str, tuple[float, float]] = {
    "image_px": (32, 512),
    "batch_size": (1, 4096),
    "epochs": (1, 10_000),
    "learning_rate": (1e-6, 10.0),
    "warm_up": (0.0, 0.9),
    "momentum": (0.0, 0.999),
    "weight_decay": (0.0, 1.0),
    "l1": (0.0, 1.0),
    "l2": (0.0, 1.0),
    "dropout": (0.0, 0.9),
    "label_smoothing": (0.0, 0.9),
    "averaging": (0.0, 0.99999),
    "validation_share": (0.01, 0.5),
    "holdout_share": (0.01, 0.5),
    "augment": (0.0, 2.0),
    "shift": (0.0, 0.5),
    "zoom": (0.0, 0.8),
    "turn": (0.0, 180.0),
    "occlude": (0.0, 1.0),
    "mixup": (0.0, 2.0),
    "cutmix": (0.0, 2.0),
    "teacher_share": (0.0, 1.0),
    "teacher_temperature": (0.5, 20.0),
    "seed": (0, 2**31 - 1),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run; written to `run.json`.

    Attributes:
        preset: Which network: one of `PRESETS`, or a backbone of `keras.applications` by its name.
        weights: What a backbone starts from: chance, or ImageNet (downloaded by Keras).
        image_px: Side of the square input.
        batch_size: Photos of one step.
        epochs: At most; early stopping may end sooner.
        optimizer: AdamW, Adam, or SGD with Nesterov momentum.
        learning_rate: At its highest, after the warm-up; falls along a cosine.
        warm_up: Share of all steps in which the learning rate rises.
        momentum: Of SGD.
        weight_decay: Decoupled from the gradient (Loshchilov & Hutter 2019); Adam has none.
        l1: Penalty on absolute kernel weights.
        l2: Penalty on squared kernel weights.
        loss: Cross-entropy, or the mean squared error of the probabilities.
        dropout: Share of features left out before the last layer.
        label_smoothing: Share of the truth that is spread over all classes.
        averaging: Momentum of the moving average of the weights that is kept (Polyak & Juditsky
            1992), a step; 0: none. A short run averages over a tenth of itself at most.
        patience: Epochs without a better validation loss until training ends; None: a quarter of
            all, but at least 8.
        holdout_share: Of photos kept for the final figures where the data set names none.
        validation_share: Of the other photos kept for choices: when to stop, temperature.
        calibration_count: Training photos recorded for the quantizer, at most.
        augment: Strength of the changes to training photos; 0: none, 1: as shelves need it.
        shift: How far a photo may be moved, share of its side.
        zoom: How much of a photo's side may be cut off: for photos that show more than the product.
        turn: How far a photo may be turned, degrees to either side: for photos of what hands hold.
        flip: Mirror photos at random: not for packets, which have print.
        occlude: Share of training photos of which a part is covered.
        mixup: Strength of blending pairs of photos (Zhang et al. 2018), 0: none.
        cutmix: Strength of pasting one photo into another (Yun et al. 2019), 0: none.
        teachers: Run directories whose answers are learned too (Hinton et al. 2015).
        teacher_share: Weight of the teachers' answers against the labels.
        teacher_temperature: Softens the teachers' answers.
        precision: Of computing; weights are float32 always.
        backend: What Keras runs on.
        xla: Compile the training step.
        distribute: Over this machine's devices, or over several machines.
        deterministic: Give the same weights again from the same seed, on the same kind of machine.
        seed: Of everything that is drawn.
    """

    preset: str = "shelf-s"
    weights: Weights = "none"
    image_px: int = 96
    batch_size: int = 32
    epochs: int = 40
    optimizer: Optimizer = "adamw"
    learning_rate: float = 3e-3
    warm_up: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    l1: float = 0.0
    l2: float = 0.0
    loss: Loss = "cross-entropy"
    dropout: float = 0.2
    label_smoothing: float = 0.05
    averaging: float = 0.98
    patience: int | None = None
    holdout_share: float = 0.15
    validation_share: float = 0.15
    calibration_count: int = 300
    augment: float = 1.0
    shift: float = 0.05
    zoom: float = 0.0
    turn: float = 0.0
    flip: bool = False
    occlude: float = 0.2
    mixup: float = 0.0
    cutmix: float = 0.0
    teachers: tuple[str, ...] = ()
    teacher_share: float = 0.7
    teacher_temperature: float = 2.0
    precision: Precision = "float32"
    backend: Backend = "tensorflow"
    xla: bool = False
    distribute: Distribute = "none"
    deterministic: bool = True
    seed: int = 7

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(
                    f"Expected: --{_option(name)} from {low:g} to {high:g}. Received: {value:g}."
                )
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                raise UsageError(
                    f"Expected: --{_option(name)} as one of {', '.join(allowed)}. Received: {value!r}."
                )

    @property
    def patience_epochs(self) -> int:
        """Epochs without a better validation loss until training ends."""
        return max(8, self.epochs // 4) if self.patience is None else self.patience

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self) | {"teachers": list(self.teachers)}


def _option(name: str) -> str:
    return name.replace("_", "-")
