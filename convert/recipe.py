"""What a conversion does to the weights, and what that may cost; imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal, get_args

from edge_agent.contracts.errors import UsageError

Qat = Literal["auto", "always", "never"]
QATS: tuple[Qat, ...] = get_args(Qat)
Quantizer = Literal["tensorflow", "litert"]
QUANTIZERS: tuple[Quantizer, ...] = get_args(Quantizer)
FloatForm = Literal["float32", "float16", "dynamic"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What is done to the weights.

    Attributes:
        qat: Train with quantization: auto where the gate refuses what calibration alone gives.
        quantizer: Which one calibrates; what was trained with quantization is TensorFlow's to convert.
        sparsity: Share of the weights to prune, 0 to below 1; None: as they are.
        clusters: Values that each layer's weights share; None: as many as they like.
        compared: Other forms to measure beside int8.
    """

    qat: Qat = "auto"
    quantizer: Quantizer = "tensorflow"
    sparsity: float | None = None
    clusters: int | None = None
    compared: tuple[FloatForm, ...] = ()

    def __post_init__(self) -> None:
        if self.sparsity is not None and not 0 < self.sparsity < 1:
            raise UsageError(f"Expected: --prune above 0 and below 1. Received: {self.sparsity:g}.")
        if self.clusters is not None and not 2 <= self.clusters <= 256:  # noqa: PLR2004 - int8 has no more
            raise UsageError(f"Expected: --cluster from 2 to 256. Received: {self.clusters}.")
        if self.sparsity is not None and self.clusters is not None:
            raise UsageError(
                "Expected: --prune or --cluster. Received: both.",
                hint="each undoes some of the other; compare them by what `packed` says",
            )
        if self.quantizer == "litert" and self.qat == "always":
            raise UsageError(
                "Expected: --quantizer tensorflow with --qat always. Received: litert.",
                hint="LiteRT's quantizer calibrates after training only",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What quantization may cost.

    One photo is always allowed: among few photos it is many points and no evidence. For the same reason
    a class has lost recall only where its 95 % interval leaves no room for chance.

    Attributes:
        max_drop_points: Of accuracy, percentage points.
        max_recall_drop_points: Of any one class, percentage points.
        min_agreement: Share of photos on which both models say the same.
        max_calibration_rise_points: Of the calibration error, percentage points.
    """

    max_drop_points: float = 0.5
    max_recall_drop_points: float = 5.0
    min_agreement: float = 0.98
    max_calibration_rise_points: float = 2.0

    def __post_init__(self) -> None:
        for name, high in (
            ("max_drop_points", 100),
            ("max_recall_drop_points", 100),
            ("min_agreement", 1),
            ("max_calibration_rise_points", 100),
        ):
            if not 0 <= (value := getattr(self, name)) <= high:
                raise UsageError(f"Expected: {name} from 0 to {high}. Received: {value}.")
