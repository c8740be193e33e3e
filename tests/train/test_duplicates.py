"""Near copies are found, other products are not, and nobody's shelf becomes one lump."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.camera.shelf.photos import LABELS, shots
from edge_agent.contracts import dataset, photos
from edge_agent.contracts.photos import NO_CLASS, Dataset, Part, Photo, Pictures
from edge_agent.contracts.preprocess import fit
from train.duplicates import alike, near_duplicates, unusable
from train.fingerprint import AT_MOST, Prints, pairs
from train.split import Split

Change = Callable[[np.ndarray], np.ndarray]


def pixels(count: int, seed: int = 0, side: int = 64) -> np.ndarray:
    """Return pictures with large and small shapes, uint8 (count, side, side, 3), no two alike.

    Not so bright that a brighter copy is white all over; real photos are tested below.
    """
    rng = np.random.default_rng(seed)
    made = np.zeros((count, side, side, 3), np.uint8)
    for image in made:
        image[:] = rng.integers(40, 180, 3)
        for _ in range(12):
            x, y, wide, high = (int(value) * side // 64 for value in rng.integers(0, 56, 4))
            colour = [int(value) for value in rng.integers(10, 180, 3)]
            cv2.rectangle(image, (x, y), (x + wide // 2 + 4, y + high // 2 + 4), colour, -1)
    return made


def held(images: np.ndarray, labels: list[int], *, groups: list[str] | None = None) -> Pictures:
    names = [f"{row}.jpg" for row in range(len(images))]
    made = tuple(
        Photo(image, label, None, groups[row] if groups else names[row], names[row])
        for row, (image, label) in enumerate(zip(images, labels, strict=True))
    )
    return Pictures(images, np.array(labels, np.int64), tuple(names), made)


def parts(train: list[int], validation: list[int], holdout: list[int]) -> Split:
    one, two, three = (np.array(some, np.int64) for some in (train, validation, holdout))
    return Split(one, two, three, calibration=one[:0])


def jpeg(image: np.ndarray, quality: int = 40) -> np.ndarray:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def half(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def brighter(image: np.ndarray) -> np.ndarray:
    return (image.astype(int) * 1.3 + 10).clip(0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    "saved anew": jpeg,
    "half the size": half,
    "brighter": brighter,
    "darker": lambda image: (image * 0.6).astype(np.uint8),
    "all three": lambda image: jpeg(brighter(half(image)), 50),
}


@pytest.mark.parametrize("how", CHANGES)
def test_a_changed_copy_in_another_part_is_found(how: str) -> None:
    originals = pixels(60, side=128)
    images, copies = (
        np.stack([fit(image, 64, 64) for image in some])
        for some in (originals, [CHANGES[how](image) for image in originals[:20]])
    )
    made = held(np.concatenate([images, copies]), [row % 3 for row in range(80)])
    found = near_duplicates(made, parts([*range(60)], [*range(60, 70)], [*range(70, 80)]))
    assert {(pair.first, pair.second) for pair in found} == {(row, row + 60) for row in range(20)}
    assert {pair.first_part for pair in found} == {"train"}
    assert [pair.second_part for pair in sorted(found, key=lambda pair: pair.first)] == (
        ["validation"] * 10 + ["holdout"] * 10
    )
    assert all(0 <= pair.distance <= AT_MOST for pair in found)
    assert [pair.distance for pair in found] == sorted(pair.distance for pair in found)


def test_copies_in_one_part_or_in_none_are_nobodys_business() -> None:
    images = pixels(10)
    made = held(np.concatenate([images, images]), [0] * 20)
    assert near_duplicates(made, parts([*range(5), *range(10, 15)], [], [*range(5, 10)])) == []


def test_different_rendered_products_are_not_taken_for_copies() -> None:
    taken = list(shots(3, 8))
    images = np.stack([fit(image, 64, 64) for _, image in taken])
    labels = [LABELS.index(label) for label, _ in taken]
    made = held(images, labels)
    half_of_them = len(images) // 2
    found = near_duplicates(made, parts([*range(half_of_them)], [], [*range(half_of_them, len(images))]))
    assert [pair for pair in found if labels[pair.first] != labels[pair.second]] == []


def test_one_packet_in_two_colours_is_two_products() -> None:
    """Equal in brightness, so that their hashes are equal; only the thumbnails tell them apart."""
    shape = pixels(1, seed=5)[0, :, :, 0].astype(int) // 2
    green, red = np.zeros((2, 64, 64, 3), np.uint8)
    green[..., 1] = shape
    red[..., 0] = (shape * 0.587 / 0.299).clip(0, 255)
    made = held(np.stack([green, red]), [0, 1])
    prints = Prints.of(made)
    assert np.bitwise_count(prints.hashes[0] ^ prints.hashes[1]) <= AT_MOST
    assert near_duplicates(made, parts([0], [], [1]), prints=prints) == []


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 12), st.integers(2, 300))
def test_every_close_pair_is_found_as_by_comparing_all(seed: int, at_most: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, count, dtype=np.uint64)
    for row in range(count // 2, count):
        turned = rng.choice(64, int(rng.integers(0, 16)), replace=False).astype(np.uint64)
        flipped = np.bitwise_or.reduce(np.uint64(1) << turned, initial=np.uint64(0))
        hashes[row] = hashes[int(rng.integers(row))] ^ flipped
    prints = Prints(hashes, np.ones((count, 1), np.float32))
    found = {
        (min(one, other), max(one, other), apart)
        for some in pairs(prints, at_most, lambda one, _other, _apart: np.ones(len(one), np.bool_))
        for one, other, apart in zip(*(rows.tolist() for rows in some), strict=True)
    }
    distances = np.bitwise_count(hashes[:, None] ^ hashes[None])
    rows, columns = np.nonzero(np.triu(distances <= at_most, 1))
    wanted = {(int(i), int(j), int(distances[i, j])) for i, j in zip(rows, columns, strict=True)}
    assert found == wanted


def test_near_copies_of_one_class_stand_together() -> None:
    images = pixels(40)
    copies = np.stack([brighter(image) for image in images[:3]])
    labels = [0] * 20 + [1] * 20 + [0, 0, 1]
    numbers = alike(held(np.concatenate([images, copies]), labels))
    assert numbers[0] == numbers[40]
    assert numbers[1] == numbers[41]
    assert numbers[2] != numbers[42], "of another class"
    assert len(set(numbers.tolist())) == 41


def test_who_gave_groups_has_said_what_belongs_together() -> None:
    images = np.concatenate([pixels(20), pixels(20)])
    groups = [f"day {row}" for row in range(40)]
    assert len(set(alike(held(images, [0] * 40, groups=groups)).tolist())) == 40


def still_shelf(count: int) -> np.ndarray:
    """Frames of one shelf where nothing happens: all near copies of each other."""
    noise = np.random.default_rng(0).normal(0, 3, (count, 64, 64, 3))
    return np.asarray((pixels(1, seed=77)[0] + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(("count", "largest"), [(400, 80), (23, 4), (6, 2)])
def test_a_still_shelf_does_not_become_one_lump(count: int, largest: int) -> None:
    numbers = alike(held(still_shelf(count), [0] * count))
    sizes = np.bincount(numbers)
    assert sizes.max() == largest
    assert (sizes > 0).sum() >= 3


def test_a_chain_is_cut() -> None:
    """Each picture is alike to the next, and the last is nothing like the first."""
    one, other = pixels(2, seed=9).astype(float)
    steps = np.linspace(0, 1, 200)[:, None, None, None]
    chain = (one * (1 - steps) + other * steps).astype(np.uint8)
    made = held(chain, [0] * 200)
    prints = Prints.of(made)
    assert np.bitwise_count(prints.hashes[0] ^ prints.hashes[-1]) > AT_MOST
    assert (np.bitwise_count(prints.hashes[:-1] ^ prints.hashes[1:]) <= AT_MOST).mean() > 0.95
    assert np.bincount(alike(made, prints=prints)).max() <= 40


def test_thousands_of_frames_of_one_shelf_are_looked_through() -> None:
    count = 6000
    made = held(np.repeat(still_shelf(60), 100, axis=0), [row % 2 for row in range(count)])
    numbers = alike(made)
    assert np.bincount(numbers).max() <= 600
    order = np.random.default_rng(1).permutation(count).tolist()
    found = near_duplicates(made, parts(order[:3000], order[3000:4500], order[4500:]))
    assert len({row for pair in found for row in (pair.first, pair.second)}) > 0.99 * count
    assert len(found) <= count


def test_equal_photos_that_contradict_each_other_are_left_out() -> None:
    image = pixels(3)

    def photo(picture: int, label: int, name: str, part: Part | None = None) -> Photo:
        return Photo(image[picture], label, part, name, name)

    listed = [
        photo(0, 0, "tea/1"),
        photo(0, 1, "milk/1"),
        photo(1, 0, "tea/2"),
        photo(1, 0, "tea/2 again"),
        photo(2, 0, "tea/3", "train"),
        photo(2, 1, "milk/3", "test"),
        photo(1, NO_CLASS, "stranger/1"),
    ]
    pictures, rejected = photos.decode(
        Dataset(Path("x"), [], listed), 16, 16, refuse=unusable(["tea", "milk"])
    )
    assert [item.name for item in pictures.photos] == ["tea/2", "tea/2 again", "tea/3", "milk/3"]
    reasons = {item.name: item.reason for item in rejected}
    assert "tea here, milk in milk/1" in reasons["tea/1"]
    assert "milk here, tea in tea/1" in reasons["milk/1"]
    assert "nothing in the catalogue" in reasons["stranger/1"]
    assert "tea/2" in reasons["stranger/1"]


def test_real_photos(public_data: Path) -> None:
    """Different products are not taken for copies: none of 4.25 million pairs."""
    pictures, _ = photos.decode(dataset.read(public_data / "grocerystore"), 96, 96)
    own = np.array([photo.part for photo in pictures.photos])
    prints = Prints.of(pictures)

    def of_two_products(one: np.ndarray, other: np.ndarray, _apart: np.ndarray) -> np.ndarray:
        return np.asarray(pictures.labels[one] != pictures.labels[other])

    assert list(pairs(prints, AT_MOST, of_two_products)) == []
    copied = pictures.part(0, 150)
    copies = [fit(CHANGES["all three"](photo.decode()), 96, 96) for photo in copied.photos]
    both = held(np.concatenate([copied.images, np.stack(copies)]), copied.labels.tolist() * 2)
    pair_of = {
        (pair.first, pair.second)
        for pair in near_duplicates(both, parts([*range(150)], [], [*range(150, 300)]))
    }
    assert {(row, row + 150) for row in range(150)} <= pair_of
    rows = [np.flatnonzero(own == part) for part in ("train", "val")]
    found = near_duplicates(pictures, Split(rows[0], rows[1][:0], rows[1], rows[0][:0]), prints=prints)
    assert len(found) < 10
