"""Where an int8 model loses: how far each operator is from its float twin, as a table and a picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convert import pages, quantize
from convert.source import Network

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Loss:
    """What one operator loses when it computes in int8.

    Attributes:
        layer: The network's own name of it.
        operator: Such as CONV_2D.
        share: Root mean square of the error over that of the float values: 0.01 is a hundredth lost.
        steps: The same error in steps of the output's scale; 0.29 is rounding alone.
    """

    layer: str
    operator: str
    share: float
    steps: float


def losses(network: Network, images: NDArray[np.uint8]) -> list[Loss]:
    """Return every operator's loss, the worst first.

    Both computations get the same int8 values, so that a loss is this operator's own.

    Args:
        network: Float.
        images: The calibration set: uint8, (n, height, width, 3), RGB.
    """
    found = []
    for row in quantize.layer_statistics(network, images):
        error, signal = float(row["mean_squared_error"]) ** 0.5, float(row["signal"]) ** 0.5
        found.append(
            Loss(
                layer=_layer(row["tensor_name"]),
                operator=row["op_name"],
                share=error / signal if signal else 0.0,
                steps=error / float(row["scale"]) if float(row["scale"]) else 0.0,
            )
        )
    return sorted(found, key=lambda loss: -loss.share)


def _layer(tensor_name: str) -> str:
    """Return the layer's part of a fused tensor's name: `net_1/stem_relu_1/Relu;net_1/stem_...`."""
    parts = tensor_name.split(";", maxsplit=1)[0].split("/")
    return parts[1] if len(parts) > 2 else parts[0]  # noqa: PLR2004 - network, layer, operation


def table(found: list[Loss]) -> str:
    """Return the worst as lines of text."""
    head = f"{'layer':32} {'operator':20} {'lost':>8} {'steps':>7}"
    lines = [
        f"{loss.layer:32.32} {loss.operator:20.20} {100 * loss.share:7.2f}% {loss.steps:7.2f}"
        for loss in found[:_SHOWN]
    ]
    return "\n".join([head, *lines])


def picture(found: list[Loss]) -> str:
    """Return the worst as an SVG picture of bars."""
    shown = found[:_SHOWN]
    widest = max((loss.share for loss in shown), default=0.0) or 1.0
    template = pages.templates().get_template("layers.svg")
    return template.render(losses=shown, widest=widest, count=len(found))
