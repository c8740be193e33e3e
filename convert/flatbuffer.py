"""Read a `.tflite` file without running it: tensors, operators in order, and what they cost.

The schema comes with the runtime's package, but nothing here executes the model: the runtime is native
code, and a file that passes its own verifier can still abort the whole process when it plans the memory.
Reading it here first tells a file that is no whole model; it does not make running one safe.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge_agent.contracts.errors import BundleError

_Table = Any  # the schema has no types
_HEAD = 8
_IDENTIFIER = b"TFL3"
_SCHEMA_VERSION = 3
_MAX_RANK = 16
_MAX_ELEMENTS = 2**31 - 1
_HINT = "convert the model again; a file of another kind, or cut off in transfer, is no use"

_BITS = {
    "float16": 16, "bfloat16": 16, "float32": 32, "float64": 64, "complex64": 64, "complex128": 128,
    "float8_e4m3fn": 8, "float8_e5m2": 8, "bool": 8, "int2": 2, "int4": 4, "uint4": 4, "int8": 8,
    "uint8": 8, "int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64,
}  # fmt: skip
_FLOATS = {"float16": "<f2", "bfloat16": "<u2", "float32": "<f4", "float64": "<f8"}
_DTYPES = {value: name.lower() for name, value in vars(schema.TensorType).items() if name.isupper()}
_OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
_ACTIVATIONS = {value: name for name, value in vars(schema.ActivationFunctionType).items() if name.isupper()}
_WINDOW = ("stride_h", "stride_w", "dilation_h_factor", "dilation_w_factor", "fused_activation_function")
_OPTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ADD": ("AddOptions", ("fused_activation_function",)),
    "AVERAGE_POOL_2D": ("Pool2DOptions", ("fused_activation_function",)),
    "CONCATENATION": ("ConcatenationOptions", ("axis", "fused_activation_function")),
    "CONV_2D": ("Conv2DOptions", _WINDOW),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", ("depth_multiplier", *_WINDOW)),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("weights_format", "fused_activation_function")),
    "MAX_POOL_2D": ("Pool2DOptions", ("fused_activation_function",)),
    "MUL": ("MulOptions", ("fused_activation_function",)),
    "PACK": ("PackOptions", ("axis",)),
    "STRIDED_SLICE": ("StridedSliceOptions", ("ellipsis_mask", "new_axis_mask")),
    "SUB": ("SubOptions", ("fused_activation_function",)),
    "TRANSPOSE_CONV": ("TransposeConvOptions", ("stride_h", "stride_w", "fused_activation_function")),
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor as the file describes it.

    Attributes:
        index: In its graph.
        name: Whatever the file says: text by a stranger.
        shape: -1 where the size is known only when the model runs.
        dtype: NumPy's name, or the format's where NumPy has none: `int4`, `bfloat16`, `string`, `resource`.
        scales: None for no quantization, one for the tensor, or one for each slice along `axis`.
        zero_points: As many.
        axis: The quantized one.
        buffer: Where its constant data are: tensors may share them; 0 for none.
        constant_bytes: Of these data; 0 where the model computes it.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int
    buffer: int
    constant_bytes: int

    @property
    def elements(self) -> int:
        """How many values; an unknown size counts as 1."""
        return math.prod(abs(size) for size in self.shape)

    @property
    def size_bytes(self) -> int:
        """What the values take; 0 for a type without a fixed size."""
        return (self.elements * _BITS.get(self.dtype, 0) + 7) // 8

    @property
    def is_float(self) -> bool:
        """Does it hold floating-point values?"""
        return "float" in self.dtype or "complex" in self.dtype


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of the model.

    Attributes:
        name: Such as `CONV_2D`; a custom operator's own name.
        version: Of the operator.
        inputs: Tensor indexes; -1 for an optional one that is not there.
        outputs: Tensor indexes.
        options: What cost and accelerators depend on, under the schema's names; words for activations.
        multiply_adds: For one picture; 0 for all but convolutions and fully connected layers.
    """

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, int | str]
    multiply_adds: int


@dataclass(frozen=True, slots=True)
class Graph:
    """A model; `others` are the graphs that its control flow calls."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    signatures: tuple[str, ...] = ()
    others: tuple["Graph", ...] = field(default=())

    @property
    def all(self) -> tuple["Graph", ...]:
        """This graph and those it calls."""
        return (self, *self.others)

    @property
    def multiply_adds(self) -> int:
        """For one picture, each called graph once."""
        return sum(operator.multiply_adds for graph in self.all for operator in graph.operators)

    @property
    def constant_bytes(self) -> int:
        """Weights and other constants; those that tensors share count once."""
        return sum({tensor.buffer: tensor.constant_bytes for g in self.all for tensor in g.tensors}.values())


@dataclass(frozen=True, slots=True)
class FloatUse:
    """An operator that touches a float tensor."""

    at: int
    operator: str
    tensor: str
    dtype: str

    def __str__(self) -> str:
        return f"operator {self.at}, {self.operator}, with the {self.dtype} tensor {self.tensor!r}"


def floats(graph: Graph) -> list[FloatUse]:
    """Return every use of a float tensor by an operator, in order: none in a full-integer model."""
    return [
        FloatUse(at, operator.name, tensor.name, tensor.dtype)
        for one in graph.all
        for at, operator in enumerate(one.operators)
        for tensor in (one.tensors[index] for index in (*operator.inputs, *operator.outputs) if index >= 0)
        if tensor.is_float
    ]


def constants(content: bytes, graph: Graph) -> Iterator[tuple[str, NDArray[np.floating[Any]]]]:
    """Yield name and values of every constant float tensor; data that tensors share come once.

    Args:
        content: The file.
        graph: What `read` made of it.
    """
    model = schema.Model.GetRootAs(content, 0)
    shared = {tensor.buffer: tensor for one in graph.all for tensor in one.tensors if tensor.constant_bytes}
    for tensor in shared.values():
        if tensor.dtype not in _FLOATS:
            continue
        buffer = model.Buffers(tensor.buffer)
        outside = buffer.Offset() > 1
        start = buffer.Offset() if outside else 0
        held = content[start : start + buffer.Size()] if outside else buffer.DataAsNumpy().tobytes()
        whole = len(held) - len(held) % (_BITS[tensor.dtype] // 8)
        values = np.frombuffer(held[:whole], _FLOATS[tensor.dtype])
        if tensor.dtype == "bfloat16":
            # The upper half of a float32.
            values = (values.astype(np.uint32) << 16).view(np.float32)
        yield tensor.name, values


def read(content: bytes) -> Graph:
    """Read a `.tflite` file; nothing in it is trusted, and nothing of it is run.

    Raises:
        BundleError: It is no TFLite model, or a damaged one.
    """
    if content[4:_HEAD] != _IDENTIFIER:
        raise BundleError(
            f"Expected: a TFLite model, with {_IDENTIFIER.decode()!r} at its fourth byte. "
            f"Received: {len(content)} bytes with {content[4:_HEAD]!r} there.",
            hint=_HINT,
        )
    try:
        return _Reader(content).graph()
    # What the generated code raises when an offset leads nowhere.
    except (struct.error, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as exc:
        raise BundleError(
            f"Expected: a whole TFLite model. Received: one that leads nowhere ({exc}).", hint=_HINT
        ) from exc


class _Reader:
    """Walks one file. Parts may overlap in a forged file, so that little says much: hence the allowance."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._allowance = 2 * len(content)
        self._model = schema.Model.GetRootAs(content, 0)
        if self._model.Version() != _SCHEMA_VERSION:
            _refuse(f"schema version {_SCHEMA_VERSION}", self._model.Version())
        self._buffers = self._model.BuffersLength()
        self._codes = [
            self._code(self._model.OperatorCodes(at))
            for at in range(self._count(self._model.OperatorCodesLength()))
        ]

    def graph(self) -> Graph:
        count = self._count(self._model.SubgraphsLength())
        if not count:
            _refuse("a graph", "none")
        first, *others = (self._subgraph(self._model.Subgraphs(at)) for at in range(count))
        signatures = tuple(
            self._text(self._model.SignatureDefs(at).SignatureKey())
            for at in range(self._count(self._model.SignatureDefsLength()))
        )
        return Graph(
            first.name, first.tensors, first.operators, first.inputs, first.outputs, signatures, tuple(others)
        )

    def _subgraph(self, table: _Table) -> Graph:
        tensors = tuple(
            self._tensor(at, table.Tensors(at)) for at in range(self._count(table.TensorsLength()))
        )
        operators = tuple(
            self._operator(table.Operators(at), tensors) for at in range(self._count(table.OperatorsLength()))
        )
        inputs, outputs = self._numbers(table, "Inputs"), self._numbers(table, "Outputs")
        _check_indexes(inputs + outputs, tensors, lowest=0)
        return Graph(self._text(table.Name()), tensors, operators, inputs, outputs)

    def _code(self, code: _Table) -> tuple[str, int]:
        # Old files have the first field only; new ones put 127 there for what does not fit it.
        number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
        if number not in _OPERATORS:
            _refuse("operators of this schema", f"number {number}")
        name = _OPERATORS[number]
        return (self._text(code.CustomCode()) or name if name == "CUSTOM" else name, code.Version())

    def _tensor(self, index: int, table: _Table) -> Tensor:
        shape = self._numbers(table, "ShapeSignature") or self._numbers(table, "Shape")
        if len(shape) > _MAX_RANK or min(shape, default=0) < -1 or math.prod(map(abs, shape)) > _MAX_ELEMENTS:
            _refuse(f"tensors of up to {_MAX_RANK} dimensions and {_MAX_ELEMENTS} values", shape[:_MAX_RANK])
        quantization = table.Quantization()
        quantized = quantization is not None
        found = Tensor(
            index=index,
            name=self._text(table.Name()),
            shape=shape,
            dtype=_DTYPES[table.Type()],
            scales=self._numbers(quantization, "Scale") if quantized else (),
            zero_points=self._numbers(quantization, "ZeroPoint") if quantized else (),
            axis=quantization.QuantizedDimension() if quantized else 0,
            buffer=table.Buffer(),
            constant_bytes=self._constant(table.Buffer()),
        )
        whole = found.size_bytes == found.constant_bytes or not found.constant_bytes or not found.size_bytes
        if not whole and table.Sparsity() is None:
            _refuse(f"{found.size_bytes} bytes for the constant {found.name!r}", found.constant_bytes)
        return found

    def _constant(self, index: int) -> int:
        if not index:
            return 0
        if index >= self._buffers:
            _refuse(f"data in one of {self._buffers} buffers", f"number {index}")
        buffer = self._model.Buffers(index)
        # Models beyond 2 GiB keep their data behind the tables; 0 and 1 mean that this one does not.
        if buffer.Offset() > 1:
            if buffer.Offset() + buffer.Size() > len(self._content):
                _refuse("data within the file", f"{buffer.Size()} bytes at {buffer.Offset()}")
            return int(buffer.Size())
        # A view, which exists only where the file reaches that far.
        return len(buffer.DataAsNumpy()) if buffer.DataLength() else 0

    def _operator(self, table: _Table, tensors: tuple[Tensor, ...]) -> Operator:
        name, version = self._codes[table.OpcodeIndex()]
        inputs, outputs = self._numbers(table, "Inputs"), self._numbers(table, "Outputs")
        _check_indexes(inputs, tensors, lowest=-1)
        _check_indexes(outputs, tensors, lowest=0)
        return Operator(
            name=name,
            version=version,
            inputs=inputs,
            outputs=outputs,
            options=dict(_options(name, table)),
            multiply_adds=_multiply_adds(
                name, [tensors[at] for at in inputs], [tensors[at] for at in outputs]
            ),
        )

    def _count(self, length: int, each_bytes: int = 8) -> int:
        """Pay for so many things; by default tables, which take a place and a table at the least."""
        self._allowance -= length * each_bytes
        if self._allowance < 0:
            _refuse("as much content as the file has bytes", "more: parts of it overlap")
        return length

    def _numbers(self, table: _Table, name: str) -> tuple[Any, ...]:
        count = self._count(getattr(table, f"{name}Length")(), 4)
        return tuple(getattr(table, f"{name}AsNumpy")().tolist()) if count else ()

    def _text(self, value: bytes | None) -> str:
        self._count(len(value or b""), 1)
        return (value or b"").decode(errors="replace")


def _check_indexes(indexes: tuple[int, ...], tensors: tuple[Tensor, ...], *, lowest: int) -> None:
    for index in indexes:
        if not lowest <= index < len(tensors):
            _refuse(f"one of {len(tensors)} tensors", f"number {index}")


def _options(name: str, table: _Table) -> Iterator[tuple[str, int | str]]:
    kind, wanted = _OPTIONS.get(name, ("", ()))
    union = table.BuiltinOptions()
    if union is None or not kind or table.BuiltinOptionsType() != getattr(schema.BuiltinOptions, kind):
        return
    options = getattr(schema, kind)()
    options.Init(union.Bytes, union.Pos)
    for key in wanted:
        value = int(getattr(options, "".join(word.title() for word in key.split("_")))())
        yield key, _ACTIVATIONS.get(value, str(value)) if key == "fused_activation_function" else value


def _multiply_adds(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> int:
    match name:
        case "CONV_2D":  # weights: outputs, height, width, inputs of a group
            _, *window = inputs[1].shape
            return outputs[0].elements * math.prod(window)
        case "DEPTHWISE_CONV_2D":  # weights: 1, height, width, outputs
            _, height, width, _ = inputs[1].shape
            return outputs[0].elements * height * width
        case "FULLY_CONNECTED":  # weights: outputs, inputs
            return outputs[0].elements * inputs[1].shape[-1]
        case "TRANSPOSE_CONV":  # shape of the output; weights: outputs, height, width, inputs; input
            *window, _ = inputs[1].shape
            return inputs[2].elements * math.prod(window)
    return 0


def _refuse(expected: str, received: object) -> NoReturn:
    raise BundleError(
        f"Expected: a TFLite model with {expected}. Received: {str(received)[:200]}.", hint=_HINT
    )
