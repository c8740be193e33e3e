"""What could be written instead of the agent: the same model, the same slots of the same frames."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edge_agent.contracts.planogram import Planogram, Slot
from edge_agent.contracts.preprocess import Image

Way = Callable[[Image], object]
Pictures = NDArray[np.uint8]


def bare(model: Path, crops: Pictures) -> Way:
    """Return what the interpreter does alone: crops are made, and answers are left as they are."""
    runtime, given, gives = _runtime(model)

    def run(_frame: Image) -> None:
        for picture in crops:
            runtime.set_tensor(given["index"], picture[None])
            runtime.invoke()
            runtime.get_tensor(gives["index"])

    return run


def _runtime(model: Path) -> tuple[Any, Mapping[str, Any], Mapping[str, Any]]:
    runtime = Interpreter(model_path=str(model), num_threads=1)
    runtime.allocate_tensors()
    return runtime, runtime.get_input_details()[0], runtime.get_output_details()[0]


def ready(model: Path, onnx: Path | None, shelf: Planogram) -> tuple[dict[str, Way], dict[str, str]]:
    """Return the ways that are installed and can read the model, and the reasons of those that cannot.

    Args:
        model: `.tflite`.
        onnx: The same model for ONNX Runtime.
        shelf: Its quads are upright.
    """
    makers: dict[str, Callable[[], Way]] = {
        "tutorial, OpenCV": lambda: tutorial(model, shelf),
        "tutorial, Pillow": lambda: _pillow(model, shelf),
        "ONNX Runtime": lambda: _onnx(onnx, shelf),
        "OpenCV DNN": lambda: _opencv(model, shelf),
        "MediaPipe Tasks": lambda: _mediapipe(model, shelf),
    }
    ways, missing = dict[str, Way](), dict[str, str]()
    for name, maker in makers.items():
        try:
            ways[name] = maker()
        except (ImportError, ValueError, RuntimeError, cv2.error) as exc:
            missing[name] = " ".join(str(exc).split())[:200]
    return ways, missing


def tutorial(model: Path, shelf: Planogram) -> Way:
    """Return the loop that tutorials show: crop, resize, set, invoke, dequantize, softmax, one by one."""
    return _looped(shelf, lambda crop, size: cv2.cvtColor(cv2.resize(crop, size), cv2.COLOR_BGR2RGB), model)


def _pillow(model: Path, shelf: Planogram) -> Way:
    from PIL import Image as Pillow  # noqa: PLC0415 - not a dependency of the kit

    def resized(crop: Image, size: tuple[int, int]) -> Pictures:
        return np.asarray(Pillow.fromarray(cv2.cvtColor(crop, cv2.COLOR_BGR2RGB)).resize(size), np.uint8)

    return _looped(shelf, resized, model)


def _looped(shelf: Planogram, resized: Callable[[Image, tuple[int, int]], Any], model: Path) -> Way:
    runtime, given, gives = _runtime(model)
    size = int(given["shape"][2]), int(given["shape"][1])
    scale, zero = gives["quantization"]

    def run(frame: Image) -> list[int]:
        answers = []
        for slot in shelf.slots:
            picture = np.expand_dims(resized(_sliced(frame, slot), size), axis=0)
            runtime.set_tensor(given["index"], picture.astype(given["dtype"]))
            runtime.invoke()
            scores = (runtime.get_tensor(gives["index"])[0].astype(np.float32) - zero) * scale
            raised = np.exp(scores - scores.max())
            answers.append(int(np.argmax(raised / raised.sum())))
        return answers

    return run


def _sliced(frame: Image, slot: Slot) -> Image:
    (left, top), _, (right, bottom), _ = slot.quad
    return frame[int(top) : int(bottom), int(left) : int(right)]


def _onnx(file: Path | None, shelf: Planogram) -> Way:
    import onnxruntime  # type: ignore[import-not-found] # noqa: PLC0415 - not a dependency of the kit

    if file is None:
        raise ValueError("no file: see --onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    size = int(given.shape[2]), int(given.shape[1])

    def run(frame: Image) -> list[int]:
        answers = []
        for slot in shelf.slots:
            picture = cv2.cvtColor(cv2.resize(_sliced(frame, slot), size), cv2.COLOR_BGR2RGB)
            answers.append(int(session.run(None, {given.name: picture[None]})[0].argmax()))
        return answers

    return run


def _opencv(model: Path, shelf: Planogram) -> Way:
    net = cv2.dnn.readNetFromTFLite(str(model))

    def run(frame: Image) -> list[int]:
        answers = []
        for slot in shelf.slots:
            net.setInput(cv2.dnn.blobFromImage(_sliced(frame, slot), 1.0, (96, 96), swapRB=True))
            answers.append(int(np.argmax(net.forward())))
        return answers

    return run


def _mediapipe(model: Path, shelf: Planogram) -> Way:
    import mediapipe  # type: ignore[import-not-found] # noqa: PLC0415 - not a dependency of the kit
    from mediapipe.tasks.python import BaseOptions, vision  # type: ignore[import-not-found] # noqa: PLC0415

    options = vision.ImageClassifierOptions(
        base_options=BaseOptions(model_asset_path=str(model)), max_results=1
    )
    classifier = vision.ImageClassifier.create_from_options(options)

    def run(frame: Image) -> list[Any]:
        crops = [cv2.cvtColor(_sliced(frame, slot), cv2.COLOR_BGR2RGB) for slot in shelf.slots]
        form = mediapipe.ImageFormat.SRGB
        return [classifier.classify(mediapipe.Image(image_format=form, data=crop)) for crop in crops]

    return run
