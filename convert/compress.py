"""Prune or cluster the weights of a network: the int8 file is as large, what is packed of it is smaller.

Both through `tensorflow-model-optimization`; the network learns to answer as before while it is done.
"""

from typing import Any

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras
from numpy.typing import NDArray

from convert import fine_tune, keras2
from convert.quantize import quietly
from convert.source import Network

# More than for quantization: half of the weights going is a larger change than their rounding.
_EPOCHS = 6
_LEARNING_RATE = 5e-4


def pruned(network: Network, images: NDArray[np.uint8], sparsity: float, *, seed: int) -> Network:
    """Set the smallest weights to nought while the others make up for it (Zhu & Gupta 2017).

    Args:
        network: Float.
        images: The calibration set: uint8, (n, height, width, 3), RGB.
        sparsity: Share of each layer's weights, 0 to 1.
        seed: Of shuffling.

    Returns:
        A new network.

    Raises:
        GateError: The network cannot be trained this way.
    """
    fine_tune.seeded(seed)
    twin = keras2.twin_of(network, images)
    sparse = tfmot.sparsity.keras
    steps = _EPOCHS * (fine_tune.PICTURES // fine_tune.BATCH)
    # Half of the time to lose weights, half to make up for them.
    schedule = sparse.PolynomialDecay(0.0, sparsity, begin_step=0, end_step=steps // 2, frequency=10)
    with quietly():
        trained = sparse.prune_low_magnitude(twin, pruning_schedule=schedule)
        _train(network, trained, images, seed, [sparse.UpdatePruningStep()])
        return keras2.network_of(sparse.strip_pruning(trained), network)


def clustered(network: Network, images: NDArray[np.uint8], clusters: int, *, seed: int) -> Network:
    """Let each layer's weights share a few values (Han et al. 2016).

    Args:
        network: Float.
        images: The calibration set: uint8, (n, height, width, 3), RGB.
        clusters: Values in each layer.
        seed: Of shuffling.

    Returns:
        A new network.

    Raises:
        GateError: The network cannot be trained this way.
    """
    fine_tune.seeded(seed)
    twin = keras2.twin_of(network, images)
    tool = tfmot.clustering.keras
    settings = {
        "number_of_clusters": clusters,
        "cluster_centroids_init": tool.CentroidInitialization.KMEANS_PLUS_PLUS,
    }

    def wrapped(layer: Any) -> Any:  # noqa: ANN401 - Keras has no types
        plain = isinstance(layer, tf_keras.layers.Conv2D | tf_keras.layers.Dense)
        few = plain and not isinstance(layer, tf_keras.layers.DepthwiseConv2D)
        return tool.cluster_weights(layer, **settings) if few else layer

    with quietly():
        trained = tf_keras.models.clone_model(twin, clone_function=wrapped)
        _train(network, trained, images, seed, [])
        return keras2.network_of(tool.strip_clustering(trained), network)


def _train(
    teacher: Network,
    student: Any,  # noqa: ANN401 - Keras has no types
    images: NDArray[np.uint8],
    seed: int,
    callbacks: list[Any],
) -> None:
    rng = np.random.default_rng(seed)
    fine_tune.to_answer_as(
        teacher, student, images, rng, learning_rate=_LEARNING_RATE, epochs=_EPOCHS, callbacks=callbacks
    )
