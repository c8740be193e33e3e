"""The networks: each takes pixels in [0, 1] and ends in logits.

Written against a Keras namespace that is handed in, so that the same code serves Keras 3 and
`tf_keras`, with layers that fold into plain int8 convolutions and that quantization-aware training
knows. Backbones of `keras.applications` are the exception: theirs are what Keras makes them.
"""

from types import ModuleType
from typing import Any

from edge_agent.contracts.errors import UsageError
from train.config import PRESETS, TrainConfig

# Filters of the residual stages; each stage halves the picture.
_SHELF_S = (24, 32, 64, 128)
_SHELF_M = (24, 32, 64, 128, 192)
# Of the network for pictures of 32 px, which starts without halving.
_SHELF_32 = (32, 64, 128, 192)


def build_model(keras: ModuleType, config: TrainConfig, classes: int) -> Any:  # noqa: ANN401 - Keras has no types
    """Return the network of a preset, untrained but for a backbone's weights.

    Args:
        keras: Keras 3 or `tf_keras`.
        config: Names the preset, its input and its penalties.
        classes: Number of logits.

    Returns:
        A functional model: float32 (n, image_px, image_px, 3) in [0, 1] to logits (n, classes).

    Raises:
        UsageError: No preset and no backbone has the name.
        DataError: The weights of a backbone cannot be had.
    """
    inputs = keras.Input((config.image_px, config.image_px, 3), name="pixels")
    layers = _Layers(keras, config)
    match config.preset:
        case "shelf-s":
            features = layers.residual(inputs, _SHELF_S)
        case "shelf-m":
            features = layers.residual(inputs, _SHELF_M)
        case "shelf-32":
            features = layers.small(inputs, _SHELF_32)
        case "article-cifar":
            features = layers.article(inputs, (32, 64, 64), 64)
        case "article-64":
            features = layers.article(inputs, (32, 64), 128)
        case name:
            # Brings all of keras.applications along; the presets need none of it.
            from train.backbone import backbone  # noqa: PLC0415

            features = backbone(keras, inputs, name, weights=config.weights, presets=PRESETS)
    if config.preset in PRESETS and config.weights != "none":
        raise UsageError(
            f"Expected: a backbone of keras.applications for --weights. Received: {config.preset}.",
            hint="for example --preset MobileNetV3Small --weights imagenet",
        )
    features = keras.layers.Dropout(config.dropout, seed=config.seed, name="dropout")(features)
    # Logits are float32 whatever the rest computes in: a loss needs the digits.
    outputs = layers.dense(classes, "logits", dtype="float32")(features)
    return keras.Model(inputs, outputs, name=config.preset.replace("-", "_"))


class _Layers:
    """Groups of layers under one Keras and one set of penalties."""

    def __init__(self, keras: ModuleType, config: TrainConfig) -> None:
        self._keras, self._l1, self._l2 = keras, config.l1, config.l2

    def residual(self, value: Any, filters: tuple[int, ...]) -> Any:  # noqa: ANN401 - Keras has no types
        """Plain residual stages (He et al. 2016) of 3x3 convolutions, and the mean over all places."""
        layers = self._keras.layers
        value = self._convolution(value, filters[0], "stem", stride=2)
        for number, width in enumerate(filters[1:], start=1):
            name = f"stage{number}"
            inner = self._convolution(value, width, f"{name}_a", stride=2)
            inner = self._convolution(inner, width, f"{name}_b", active=False)
            short = self._convolution(value, width, f"{name}_short", stride=2, side=1, active=False)
            value = layers.Add(name=f"{name}_add")([inner, short])
            value = layers.ReLU(name=f"{name}_relu")(value)
        return layers.GlobalAveragePooling2D(name="mean")(value)

    def small(self, value: Any, filters: tuple[int, ...]) -> Any:  # noqa: ANN401 - Keras has no types
        """Wide early stages without a halving stem, residual pairs, the highest of all places.

        After the ResNet-9 of Page's "How to Train Your ResNet" (2018), thinned to under a million weights.
        """
        layers = self._keras.layers
        value = self._convolution(value, filters[0], "stem")
        for number, width in enumerate(filters[1:], start=1):
            name = f"stage{number}"
            value = self._convolution(value, width, f"{name}_in", pool=True)
            inner = self._convolution(value, width, f"{name}_a")
            if number == 1:
                inner = self._convolution(inner, width, f"{name}_b")
            value = layers.Add(name=f"{name}_add")([value, inner])
        return layers.GlobalMaxPooling2D(name="highest")(value)

    def article(self, value: Any, filters: tuple[int, ...], dense: int) -> Any:  # noqa: ANN401 - Keras has no types
        """Unpadded convolutions with pooling between them, and a dense layer."""
        layers = self._keras.layers
        for number, width in enumerate(filters, start=1):
            value = layers.Conv2D(
                width, 3, activation="relu", name=f"conv{number}", kernel_regularizer=self._penalty()
            )(value)
            if number < len(filters) or len(filters) == 2:  # noqa: PLR2004 - the smaller one pools after both
                value = layers.MaxPooling2D(name=f"pool{number}")(value)
        value = layers.Flatten(name="flat")(value)
        return self.dense(dense, "dense", activation="relu")(value)

    def dense(self, units: int, name: str, **options: Any) -> Any:  # noqa: ANN401 - Keras has no types
        """Return a dense layer with the run's penalties."""
        return self._keras.layers.Dense(units, name=name, kernel_regularizer=self._penalty(), **options)

    def _convolution(
        self,
        value: Any,  # noqa: ANN401 - Keras has no types
        filters: int,
        name: str,
        *,
        stride: int = 1,
        side: int = 3,
        pool: bool = False,
        active: bool = True,
    ) -> Any:  # noqa: ANN401 - Keras has no types
        layers = self._keras.layers
        value = layers.Conv2D(
            filters,
            side,
            strides=stride,
            padding="same",
            use_bias=False,
            name=f"{name}_conv",
            kernel_regularizer=self._penalty(),
        )(value)
        if pool:
            # Before the norm: a quarter of the work for what comes after.
            value = layers.MaxPooling2D(name=f"{name}_pool")(value)
        value = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(value)
        return layers.ReLU(name=f"{name}_relu")(value) if active else value

    def _penalty(self) -> Any:  # noqa: ANN401 - Keras has no types
        if not self._l1 and not self._l2:
            return None
        return self._keras.regularizers.L1L2(self._l1, self._l2)
