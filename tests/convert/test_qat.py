"""The same network under the other Keras."""

import numpy as np
import pytest


@pytest.mark.parametrize(
    "preset",
    ["shelf-s", pytest.param("shelf-m", marks=pytest.mark.slow), "shelf-32", "article-cifar", "article-64"],
)
def test_every_preset_computes_the_same_when_it_is_rebuilt(preset: str) -> None:
    import keras  # noqa: PLC0415 - seconds, and only here
    import tensorflow_model_optimization as tfmot  # noqa: PLC0415

    from convert.keras2 import rebuild  # noqa: PLC0415
    from train.config import TrainConfig  # noqa: PLC0415
    from train.model import build_model  # noqa: PLC0415

    rng = np.random.default_rng(1)
    model = build_model(keras, TrainConfig(preset=preset, image_px=64), 5)
    # Norms as training leaves them, not as they begin: with a mean, a variance, a scale of either sign.
    model.set_weights(
        [
            value + rng.uniform(0.1, 0.9, value.shape) * (1 if value.min(initial=1) >= 0 else 0)
            if value.dtype == np.float32
            else value
            for value in model.get_weights()
        ]
    )
    pixels = rng.random((4, 64, 64, 3), np.float32)
    twin = rebuild(model)
    before, after = model.predict_on_batch(pixels), twin.predict_on_batch(pixels)
    assert np.allclose(before, after, rtol=1e-4, atol=1e-4)
    assert np.ptp(before) > 1e-3
    assert tfmot.quantization.keras.quantize_model(twin).count_params() >= twin.count_params()
