"""A classifier written byte by byte, without TensorFlow: the brightest channel decides."""

from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FLOAT32 = schema.TensorType.FLOAT32


def brightest(
    height: int = 32, width: int = 32, *, channels: int = 3, weights: np.ndarray | None = None
) -> bytes:
    """A float32 `.tflite` file: the mean of each channel, and a fully connected layer behind it.

    Args:
        height: Of the input, px.
        width: Of the input, px.
        channels: Of the input.
        weights: float32 (classes, channels); None: each channel is a class.
    """
    kernel = np.asarray(10 * np.eye(channels) if weights is None else weights, np.float32)
    shapes = {
        "pixels": (1, height, width, channels),
        "means": (1, 1, 1, channels),
        "kernel": kernel.shape,
        "scores": (1, len(kernel)),
    }
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(name, shape) for name, shape in shapes.items()]
    graph.tensors[2].buffer = 1
    graph.inputs, graph.outputs = [0], [3]
    graph.operators = [_pool(height, width), _dense()]
    model = schema.ModelT()
    model.version, model.subgraphs = 3, [graph]
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.frombuffer(kernel.tobytes(), np.uint8)
    names = ("AVERAGE_POOL_2D", "FULLY_CONNECTED")
    model.operatorCodes = [_code(getattr(schema.BuiltinOperator, name)) for name in names]
    return packed(model)


def packed(model: Any) -> bytes:  # noqa: ANN401 - the schema has no types
    """The file of a model's tables."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(name: str, shape: tuple[int, ...]) -> Any:  # noqa: ANN401 - the schema has no types
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), FLOAT32, 0
    return tensor


def _code(number: int) -> Any:  # noqa: ANN401 - the schema has no types
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = number
    code.version = 1
    return code


def _pool(height: int, width: int) -> Any:  # noqa: ANN401 - the schema has no types
    options = schema.Pool2DOptionsT()
    options.filterHeight, options.filterWidth = height, width
    options.strideH = options.strideW = 1
    options.padding = schema.Padding.VALID
    return _operator(0, [0], [1], schema.BuiltinOptions.Pool2DOptions, options)


def _dense() -> Any:  # noqa: ANN401 - the schema has no types
    options = schema.FullyConnectedOptionsT()
    return _operator(1, [1, 2, -1], [3], schema.BuiltinOptions.FullyConnectedOptions, options)


def _operator(code: int, inputs: list[int], outputs: list[int], kind: int, options: Any) -> Any:  # noqa: ANN401 - the schema has no types
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    operator.builtinOptionsType, operator.builtinOptions = kind, options
    return operator
