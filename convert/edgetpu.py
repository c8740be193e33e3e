"""Would the Edge TPU take it? What Coral documents, applied to a file; only Coral's compiler decides.

Source: Coral, "TensorFlow models on the Edge TPU", sections "Model requirements" and "Supported
operations" (coral.ai/docs/edgetpu/models-intro). The compiler maps operators up to the first one that it
cannot; from there on all of them run on the CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass

from convert.flatbuffer import Graph, Operator, Tensor

NOTICE = (
    "By Coral's published rules; no compiler was run, and only edgetpu_compiler decides "
    "(it may also refuse large tensors)."
)
_QUANTIZED = {"int8", "uint8"}
_INTEGERS = {"int32", "int64"}  # biases, shapes, axes
_MAX_SOFTMAX = 16_000
_INNER = 3


@dataclass(frozen=True, slots=True)
class Mapping:
    """What becomes of one operator: `reasons` are why the rules exclude it; none: it should map."""

    at: int
    operator: str
    reasons: tuple[str, ...]
    reached: bool

    @property
    def maps(self) -> bool:
        """Would it run on the Edge TPU: allowed, and nothing before it that is not?"""
        return self.reached and not self.reasons


Rule = Callable[[Graph, Operator], str]
"""Returns why an operator would not map, or nothing."""


def _any(_: Graph, __: Operator) -> str:
    return ""


def _no_activation(_: Graph, operator: Operator) -> str:
    fused = operator.options.get("fused_activation_function", "NONE")
    return "" if fused == "NONE" else f"a fused activation ({fused})"


def _same_dilation(_: Graph, operator: Operator) -> str:
    dilations = {operator.options.get(f"dilation_{side}_factor", 1) for side in "hw"}
    return "" if len(dilations) == 1 else "another dilation in x than in y"


def _dense(graph: Graph, operator: Operator) -> str:
    if operator.options.get("weights_format", 0):
        return "weights in a format of their own"
    output = graph.tensors[operator.outputs[0]]
    return "" if _ranks_used(output) <= 1 else "an output of more than one dimension"


def _concatenation(graph: Graph, operator: Operator) -> str:
    if fused := _no_activation(graph, operator):
        return fused
    constant = any(graph.tensors[at].constant_bytes for at in operator.inputs if at >= 0)
    return "more than two inputs, one of them constant" if constant and len(operator.inputs) != 2 else ""  # noqa: PLR2004 - the rule's own number


def _softmax(graph: Graph, operator: Operator) -> str:
    tensor = graph.tensors[operator.inputs[0]]
    if _ranks_used(tensor) > 1:
        return "an input of more than one dimension"
    return "" if tensor.elements <= _MAX_SOFTMAX else f"more than {_MAX_SOFTMAX} elements"


def _strided_slice(_: Graph, operator: Operator) -> str:
    masks = [name for name in ("ellipsis_mask", "new_axis_mask") if operator.options.get(name, 0)]
    return f"an {masks[0]}" if masks else ""


def _ranks_used(tensor: Tensor) -> int:
    return sum(size > 1 for size in tensor.shape)


SUPPORTED: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "ADD", "EXPAND_DIMS", "L2_NORMALIZATION", "LOGISTIC", "MAXIMUM", "MEAN", "MINIMUM", "MUL", "PACK",
            "PAD", "PRELU", "QUANTIZE", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RELU_N1_TO_1",
            "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "RSQRT", "SLICE", "SPACE_TO_DEPTH",
            "SPLIT", "SQUARED_DIFFERENCE", "SQUEEZE", "SUB", "SUM", "TANH", "TRANSPOSE", "TRANSPOSE_CONV",
            "UNIDIRECTIONAL_SEQUENCE_LSTM",
        ),
        _any,
    ),
    "AVERAGE_POOL_2D": _no_activation,
    "CONCATENATION": _concatenation,
    "CONV_2D": _same_dilation,
    "DEPTHWISE_CONV_2D": _same_dilation,
    "FULLY_CONNECTED": _dense,
    "MAX_POOL_2D": _no_activation,
    "SOFTMAX": _softmax,
    "STRIDED_SLICE": _strided_slice,
}  # fmt: skip


def mappings(graph: Graph) -> list[Mapping]:
    """Say of each operator whether the Edge TPU should take it, in order."""
    reasons = [tuple(_reasons(graph, operator)) for operator in graph.operators]
    first = next((at for at, why in enumerate(reasons) if why), len(reasons))
    return [
        Mapping(at, operator.name, why, reached=at <= first)
        for at, (operator, why) in enumerate(zip(graph.operators, reasons, strict=True))
    ]


def _reasons(graph: Graph, operator: Operator) -> list[str]:
    if operator.name not in SUPPORTED:
        return ["not among the supported operations"]
    reasons = [SUPPORTED[operator.name](graph, operator)]
    touched = (at for at in (*operator.inputs, *operator.outputs) if at >= 0)
    reasons.extend(_unfit(graph.tensors[at]) for at in touched)
    return sorted({reason for reason in reasons if reason})


def _unfit(tensor: Tensor) -> str:
    if tensor.dtype not in _QUANTIZED | _INTEGERS:
        return f"{tensor.dtype} tensors, not int8 or uint8"
    # The converter leaves the batch open; runtimes and compiler take the 1 that is written beside it.
    if any(size < 0 for size in tensor.shape[1:]):
        return "a size known only at run time"
    if not tensor.constant_bytes and any(size > 1 for size in tensor.shape[:-_INNER]):
        return "more than the three innermost dimensions above 1"
    return ""
