"""Which pictures look alike: a 64-bit perceptual hash, and a second look at those whose hashes are close.

The hash is pHash's (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash
Functions"): the 8x8 lowest frequencies of the cosine transform of the grey picture
at 32x32 px, each compared with their median. The second look is the correlation of 8x8 px colour
thumbnails, which tells packets of one layout in different colours apart.

Pairs are found by the pigeonhole principle (Norouzi et al. 2012, "Fast Search in Hamming Space with
Multi-Index Hashing"): of k + 1 bands of bits, two hashes that differ in k bits share one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_agent.contracts.photos import Pictures
from edge_agent.contracts.preprocess import fit

Rows = NDArray[np.int64]
Pairs = tuple[Rows, Rows, Rows]
"""First rows, second rows, and the number of bits in which their hashes differ."""

Wanted = Callable[[Rows, Rows, Rows], NDArray[np.bool_]]

AT_MOST = 8
"""Bits. Copies of 600 photos of GroceryStore saved anew, at half the size, brightened by 30 % or
all three differ in at most 8; none of its 4.25 million pairs of photos of different products does."""

_ALIKE = 0.9
"""Correlation of thumbnails; those copies have at least 0.97."""
_SIDE_PX = 32
_LOWEST = 8
_THUMB_PX = 8
_BITS = 64
_BLOCK = 256
_WINDOW = 1024
_CROWD = 4096
_WINDOW_IN_A_CROWD = 128
"""In a band that very many pictures share, each is compared with this many that follow it in the
order of their hashes, so that ten thousand frames of one still shelf cannot take for ever."""
_AT_ONCE = 16_384


@dataclass(frozen=True, slots=True)
class Prints:
    """What is compared of each picture.

    Attributes:
        hashes: uint64, (n,).
        thumbs: float32, (n, 192): of mean 0 and length 1.
    """

    hashes: NDArray[np.uint64]
    thumbs: NDArray[np.float32]

    @classmethod
    def of(cls, pictures: Pictures) -> "Prints":
        """Look at each picture once."""
        hashes = np.zeros(len(pictures), np.uint64)
        thumbs = np.zeros((len(pictures), _THUMB_PX * _THUMB_PX * 3), np.float32)
        for row, image in enumerate(pictures.images):
            hashes[row], thumbs[row] = _hash(image), _thumb(image)
        return cls(hashes, thumbs)


def _hash(image: NDArray[np.uint8]) -> np.uint64:
    # `fit` turns channels around; RGB goes in, so BGR comes out.
    grey = cv2.cvtColor(fit(image, _SIDE_PX, _SIDE_PX), cv2.COLOR_BGR2GRAY).astype(np.float32)
    lowest = cv2.dct(grey)[:_LOWEST, :_LOWEST].ravel()
    # The first is the mean brightness, which says nothing and would move the median.
    return np.uint64(np.packbits(lowest > np.median(lowest[1:])).view(np.uint64)[0])


def _thumb(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    small = fit(image, _THUMB_PX, _THUMB_PX).astype(np.float32).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1.0)


def pairs(prints: Prints, at_most: int, wanted: Wanted) -> Iterator[Pairs]:
    """Yield pairs of rows that look alike; the same pair may come again.

    Args:
        prints: Of all pictures.
        at_most: Bits in which two hashes may differ.
        wanted: Whether a pair still matters, given as `Pairs`; asked again as results come in, so
            that what is settled costs nothing more.
    """
    for left, right, apart in _close(prints.hashes, at_most):
        for start in range(0, len(left), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            asked = wanted(left[some], right[some], apart[some])
            one, other = left[some][asked], right[some][asked]
            alike = np.einsum("ij,ij->i", prints.thumbs[one], prints.thumbs[other]) >= _ALIKE
            if alike.any():
                yield one[alike], other[alike], apart[some][asked][alike]


def _close(hashes: NDArray[np.uint64], at_most: int) -> Iterator[Pairs]:
    """Yield pairs of rows that share a band, and whose hashes differ in few bits."""
    edges = np.linspace(0, _BITS, at_most + 2).astype(int).tolist()
    for low, high in pairwise(edges):
        keys = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.lexsort((hashes, keys)).astype(np.int64)
        for bucket in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            window = _WINDOW if len(bucket) <= _CROWD else _WINDOW_IN_A_CROWD
            for start in range(0, len(bucket) - 1, _BLOCK):
                rows, following = bucket[start : start + _BLOCK], bucket[start : start + _BLOCK + window]
                apart = np.bitwise_count(hashes[rows, None] ^ hashes[following])
                here, there = np.nonzero(np.triu(apart <= at_most, 1))
                yield rows[here], following[there], apart[here, there].astype(np.int64)
