"""What a conversion does to the weights; imports nothing heavy."""

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
