"""Reading a `.tflite` file: what real ones say, and that no bytes do harm."""

import struct
import time
from collections.abc import Iterable
from pathlib import Path

import flatbuffers  # type: ignore[import-untyped]
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.flatbuffer import Graph, floats, read
from edge_agent.contracts.errors import BundleError


@pytest.fixture(scope="session")
def model(bundle_folder: Path) -> bytes:
    """A model of ours."""
    return (bundle_folder / "model.tflite").read_bytes()


def damaged(content: bytes, changes: Iterable[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for at, value in changes:
        changed[at % len(changed)] = value
    return bytes(changed)


def read_if_whole(content: bytes) -> Graph | None:
    started = time.perf_counter()
    try:
        return read(content)
    except BundleError:
        return None
    finally:
        assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("name", "operators", "multiply_adds", "dtype"),
    [
        ("coral_test_data/mobilenet_v2_1.0_224_quant", 66, 300_775_552, "uint8"),
        ("mlperf_tiny/pretrainedResnet_quant", 16, 12_501_632, "int8"),
        ("mlperf_tiny/vww_96_int8", 31, 7_489_664, "int8"),
    ],
)
def test_models_of_others(
    public_data: Path, name: str, operators: int, multiply_adds: int, dtype: str
) -> None:
    """The multiply-adds are those that the networks' authors publish: 300 M, 12.5 M and 7.5 M."""
    content = (public_data / f"{name}.tflite").read_bytes()
    graph = read(content)
    assert len(graph.operators) == operators
    assert graph.multiply_adds == multiply_adds
    assert graph.tensors[graph.inputs[0]].dtype == dtype
    assert 0.6 * len(content) < graph.constant_bytes < len(content)
    assert floats(graph) == []
    assert graph.operators[0].name == "CONV_2D"
    assert graph.operators[0].options["fused_activation_function"] in {"RELU", "RELU6"}
    assert {"DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}.isdisjoint(
        operator.name for operator in graph.operators if not operator.multiply_adds
    )


def test_a_model_of_ours(model: bytes) -> None:
    graph = read(model)
    pixels = graph.tensors[graph.inputs[0]]
    assert (pixels.dtype, pixels.shape[1:], pixels.zero_points) == ("uint8", (64, 64, 3), (0,))
    assert pixels.scales[0] == pytest.approx(1 / 255)
    weights = graph.tensors[graph.operators[1].inputs[1]]
    assert weights.constant_bytes == weights.size_bytes > 0
    assert len(weights.scales) == weights.shape[weights.axis] > 1
    assert graph.signatures == ("serving_default",)
    assert floats(graph) == []


def test_float_tensors_are_named(public_data: Path) -> None:
    graph = read((public_data / "mlperf_tiny" / "pretrainedResnet.tflite").read_bytes())
    first = floats(graph)[0]
    assert str(first) == "operator 0, CONV_2D, with the float32 tensor 'input_1'"
    assert {use.at for use in floats(graph)} == set(range(len(graph.operators)))


@pytest.mark.parametrize(
    "content",
    [b"", b"TFL3", b"\x00" * 64, b"PK\x03\x04" + b"\x00" * 400, b"\x08\x00\x00\x00TFL3",
     b"\xff\xff\xff\xffTFL3" + b"\xff" * 400, b"\x00\x00\x00\x00TFL3" + b"\x00" * 400],
    ids=["empty", "short", "zeros", "a zip file", "a head alone", "all ones", "its own table"],
)  # fmt: skip
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match="Expected: a") as caught:
        read(content)
    assert caught.value.exit_code == 6


def test_parts_that_overlap_are_not_read_over_and_over() -> None:
    """20,000 graphs that are one graph, of 20,000 tensors that are one: 160 kB say 400 million things."""
    builder = flatbuffers.Builder(0)
    schema.TensorStart(builder)
    tensor = schema.TensorEnd(builder)
    schema.SubGraphStartTensorsVector(builder, 20_000)
    for _ in range(20_000):
        builder.PrependUOffsetTRelative(tensor)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 20_000)
    for _ in range(20_000):
        builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, graphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    started = time.process_time()
    with pytest.raises(BundleError, match="overlap"):
        read(bytes(builder.Output()))
    assert time.process_time() - started < 10


@given(st.data())
@settings(max_examples=200)
def test_a_cut_model_is_refused(model: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(model) - 16) | st.integers(0, 4096))
    with pytest.raises(BundleError, match="Expected: a"):
        read(model[:cut])


@given(st.data())
@settings(max_examples=300)
def test_a_length_beyond_the_file_costs_nothing(model: bytes, data: st.DataObject) -> None:
    """Any word may be a length or a place."""
    at = 4 * data.draw(st.integers(0, 2048) | st.integers(0, len(model) // 4 - 1))
    word = data.draw(st.sampled_from([1, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1]))
    read_if_whole(damaged(model, enumerate(struct.pack("<I", word), at)))


@given(st.data())
@settings(max_examples=300)
def test_no_changed_byte_does_harm(model: bytes, data: st.DataObject) -> None:
    ends = st.integers(0, 8192) | st.integers(-16384, -1) | st.integers(0, len(model) - 1)
    changes = data.draw(st.lists(st.tuples(ends, st.integers(0, 255)), min_size=1, max_size=16))
    found = read_if_whole(damaged(model, changes))
    if found is not None:
        floats(found)
        assert found.multiply_adds >= 0


@given(st.binary(max_size=2048))
def test_no_bytes_behind_the_identifier_do_harm(tail: bytes) -> None:
    read_if_whole(b"\x10\x00\x00\x00TFL3" + tail)
