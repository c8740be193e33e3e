"""Everything that decides what a training run produces."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from edge_agent.contracts.errors import UsageError

Preset = Literal["shelf-s", "shelf-m", "article-cifar", "article-64"]
PRESETS: tuple[Preset, ...] = ("shelf-s", "shelf-m", "article-cifar", "article-64")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run; written to `run.json`.

    Attributes:
        preset: Which network, see `train.model`.
        image_px: Side of the square input.
        batch_size: Photos of one step.
        epochs: At most; early stopping may end sooner.
        learning_rate: At its highest, after the warm-up; falls along a cosine.
        weight_decay: Of AdamW.
        dropout: Share of features left out before the last layer.
        label_smoothing: Share of the truth that is spread over all classes.
        patience: Epochs without a better validation loss until training ends.
        holdout_share: Of photos kept for the final figures where the data set names none.
        validation_share: Of the other photos kept for choices: when to stop, temperature.
        calibration_count: Training photos recorded for the quantizer, at most.
        augment: Strength of the changes to training photos; 0: none, 1: as shelves need it.
        zoom: How much of a photo's side may be cut off: for photos that show more than the product.
        flip: Mirror photos at random: not for packets, which have print.
        mixup: Strength of blending pairs of photos (Zhang et al. 2018), 0: none.
        seed: Of everything that is drawn.
    """

    preset: Preset = "shelf-s"
    image_px: int = 96
    batch_size: int = 32
    epochs: int = 40
    learning_rate: float = 3e-3
    weight_decay: float = 5e-4
    dropout: float = 0.2
    label_smoothing: float = 0.05
    patience: int = 8
    holdout_share: float = 0.15
    validation_share: float = 0.15
    calibration_count: int = 300
    augment: float = 1.0
    zoom: float = 0.0
    flip: bool = False
    mixup: float = 0.0
    seed: int = 7

    def __post_init__(self) -> None:
        for name, low, high in (
            ("image_px", 32, 512),
            ("batch_size", 1, 4096),
            ("epochs", 1, 10_000),
            ("learning_rate", 1e-6, 10.0),
            ("augment", 0.0, 2.0),
            ("zoom", 0.0, 0.8),
            ("mixup", 0.0, 2.0),
            ("seed", 0, 2**31 - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                option = name.replace("_", "-")
                raise UsageError(f"Expected: --{option} from {low:g} to {high:g}. Received: {value:g}.")
        if self.preset not in PRESETS:
            raise UsageError(f"Expected: --preset as one of {', '.join(PRESETS)}. Received: {self.preset!r}.")

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)
