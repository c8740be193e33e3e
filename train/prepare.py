"""Photos, decoded and divided; knows no Keras, so that bad data is told before anything slow is imported."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.contracts import dataset, photos
from edge_agent.contracts.photos import Dataset, Photo, Pictures, Progress, Rejected
from train.config import TrainConfig
from train.split import Split, split


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a training run starts from."""

    dataset: Dataset
    pictures: Pictures
    parts: Split
    rejected: list[Rejected]


def prepare(
    data: Path, config: TrainConfig, *, levels: Literal["fine", "coarse"], progress: Progress[Photo]
) -> Prepared:
    """Read a data set, decode its photos at model size, and decide who sees which.

    Args:
        data: Any layout of `contracts.dataset`.
        config: Gives size, shares and seed.
        levels: For data sets with two levels of classes.
        progress: Shows how far decoding is.

    Raises:
        DataError: The photos cannot be used.
    """
    found = dataset.read(data, levels=levels)
    pictures, rejected = photos.decode(found, config.image_px, config.image_px, progress)
    return Prepared(found, pictures, split(pictures, found.labels, config), rejected)
