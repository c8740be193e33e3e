"""The bundle reader on folders that mean harm: a sound bundle or a BundleError comes out, nothing else."""

import copy
import hashlib
import io
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_agent.contracts import bundle
from edge_agent.contracts.bundle import GOLDEN, MANIFEST, MODEL, Bundle
from edge_agent.contracts.errors import BundleError

SEVERAL = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
IMAGES = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
SCORES = np.array([[9, 0, 1], [0.5, 7, 0]], np.float32)


def npz(save: Callable[..., None] = np.savez, **arrays: Any) -> bytes:  # noqa: ANN401 - whatever shall be in it
    file = io.BytesIO()
    save(file, **({"images": IMAGES, "scores": SCORES} | arrays))
    return file.getvalue()


FILES = {GOLDEN: npz(), MODEL: b"not a model, but who reads a bundle cannot know"}
_SCORE = {"accuracy": 0.9, "recall": {"empty": 1.0, "milk-1l": 0.8}}


def manifest(held: dict[str, bytes] | None = None, **changes: object) -> dict[str, Any]:
    """A sound manifest of these files, every field in it."""
    entries = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        for name, content in (FILES if held is None else held).items()
    }
    sound = {
        "format": 1,
        "name": "dairy",
        "version": "1.4.2",
        "files": entries,
        "labels": [{"label": "empty"}, {"label": "milk-1l", "gtin": "09506000134352"}, {"label": "tea"}],
        "input": {"height": 4, "width": 4, "channels": "RGB", "resize": "area-bilinear", "pixels": "raw"},
        "output": {"kind": "logits"},
        "calibration": {"temperature": 1.5, "unknown_below": 0.4},
        "golden": {"tolerance": 0.25},
        "scorecard": {
            "n": 20,
            "float32": _SCORE,
            "int8": _SCORE | {"calibration_error": 0.01},
            "drop_points": 0.5,
            "agreement": 0.99,
            "recall_drop": {"tea": {"n": 4, "points": 1.0, "low_points": -1.0, "high_points": 2.0}},
        },
        "provenance": {
            "run_sha256": "ab" * 32,
            "dataset_sha256": "cd" * 32,
            "packages": {"numpy": "2.2.0"},
            "quantization": "ptq",
        },
    }
    return copy.deepcopy(sound | changes)


def write(folder: Path, content: object = None, files: dict[str, bytes] | None = None) -> Path:
    """Write a bundle: its manifest as JSON, or as these bytes, and its files."""
    folder.mkdir(exist_ok=True)
    for name, data in (FILES if files is None else files).items():
        (folder / name).write_bytes(data)
    value = manifest(files) if content is None else content
    (folder / MANIFEST).write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
    return folder


@contextmanager
def written(content: object = None, files: dict[str, bytes] | None = None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as room:
        yield write(Path(room) / "bundle", content, files)


def refused(asked: Callable[[], object]) -> BundleError | None:
    """Ask; return the refusal, which tells a person something, or None. Anything else ends the test."""
    try:
        asked()
    except BundleError as exc:
        refusal = exc
    else:
        return None
    said = str(refusal)
    assert said.startswith("Expected: ")
    assert "Received: " in said
    assert len(said.encode()) < 4000
    assert refusal.hint
    return refusal


def sound(found: Bundle) -> None:
    """A bundle's files are plain, inside its folder, and have the sizes and hashes of its manifest."""
    assert {GOLDEN, MODEL} <= set(found.manifest.files)
    for name, entry in found.manifest.files.items():
        file = found.path / name
        assert file.resolve().parent == found.path.resolve()
        assert file.is_file()
        assert not file.is_symlink()
        content = file.read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry.size, entry.sha256)
    assert json.loads(rewritten(found.manifest))["name"] == found.manifest.name


def rewritten(read: bundle.Manifest) -> bytes:
    """Write a manifest as `convert` does."""
    return read.model_dump_json(indent=1, exclude_none=True).encode()


def judge(folder: Path) -> None:
    """The reader refuses, or what it gives is sound; so does its reader of golden vectors."""

    def ask() -> None:
        found = bundle.read(folder)
        sound(found)
        images, scores = found.golden()
        assert images.dtype == np.uint8
        assert images.shape[1:] == (found.manifest.input.height, found.manifest.input.width, 3)
        assert scores.shape == (len(images), len(found.manifest.labels))
        assert np.isfinite(scores).all()

    refused(ask)


def test_a_sound_bundle_is_read(tmp_path: Path) -> None:
    found = bundle.read(write(tmp_path / "bundle"))
    sound(found)
    images, scores = found.golden()
    assert np.array_equal(images, IMAGES)
    assert np.array_equal(scores, SCORES)


# The manifest -----------------------------------------------------------------------------------------

numbers = st.integers() | st.sampled_from([2**31, 2**63, 10**30, -(10**400), 10**4299, 1e308, -0.0, 5e-324])
texts = st.text(max_size=8) | st.sampled_from(
    ["\0", "../x", "/etc/passwd", "\ud800", "inf", "nan", "1", "é" * 99]
)
leaves = st.none() | st.booleans() | numbers | st.floats() | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def places(value: object) -> list[tuple[Any, ...]]:
    """Where something lies in a JSON value: the keys that lead there."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((key, *rest) for key, item in inner for rest in places(item))]


def put(value: Any, place: tuple[Any, ...], new: object) -> Any:  # noqa: ANN401 - JSON
    """Return a JSON value with something else in a place."""
    if not place:
        return new
    value[place[0]] = put(value[place[0]], place[1:], new)
    return value


@SEVERAL
@given(st.lists(st.tuples(st.sampled_from(places(manifest())), values), min_size=1, max_size=2))
def test_any_value_in_any_place_of_the_manifest(changes: list[tuple[tuple[Any, ...], object]]) -> None:
    value = manifest()
    for place, new in changes:
        if place in places(value):
            value = put(value, place, new)
    with written(value) as folder:
        judge(folder)


@SEVERAL
@given(st.sampled_from(places(manifest())[1:]))
def test_any_part_of_the_manifest_missing(place: tuple[Any, ...]) -> None:
    value = manifest()
    inner: Any = value
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    with written(value) as folder:
        judge(folder)


@SEVERAL
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0)
)
def test_any_byte_of_the_manifest_flipped_or_cut_off(flips: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(json.dumps(manifest()).encode())
    for place, byte in flips:
        content[place % len(content)] = byte
    with written(bytes(content[: len(content) - cut % 3])) as folder:
        judge(folder)


@SEVERAL
@given(
    st.binary(max_size=200)
    | st.text(alphabet='{}[]",:0123456789.eE-+ntfaINy\\u', max_size=80).map(str.encode)
)
@example(b"\xff\xfe{\x00}\x00")
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 200_000)
@example(b'{"a":' * 100_000)
@example(b"9" * 5000)
@example(b'{"format": 1' + b"0" * 4000 + b"}")
@example(b'{"format": NaN}')
@example(b'{"format": 1e999}')
def test_anything_at_all_for_a_manifest(content: bytes) -> None:
    with written(content) as folder:
        assert refused(lambda: bundle.read(folder))


HUGE_INTEGER = json.dumps(manifest(extra=0)).replace('"extra": 0', '"extra": ' + "9" * 5000).encode()
TWICE = json.dumps(manifest()).replace('"name"', '"name": "other", "name"').encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (manifest(extra=float("nan")), "NaN"),
        (manifest(extra=-float("inf")), "Infinity"),
        (json.dumps(manifest(extra=0)).replace('"extra": 0', '"extra": 1e999').encode(), "1e999"),
        (HUGE_INTEGER, "JSON"),
        (TWICE, "twice"),
        (manifest(extra="\ud800"), "surrogate"),
        (manifest(format=2), "format 2"),
        (manifest(format=10**4000), "format 1000"),
        (manifest(golden={"tolerance": 10**4000}), "tolerance"),
        (manifest(labels=[{"label": "../../etc"}] * 2), "label"),
        (manifest(input={"height": 1025, "width": 4}), "1024"),
        (manifest(calibration={"temperature": 0}), "temperature"),
        (manifest(calibration={"temperature": "inf"}), "temperature"),
        (json.dumps(manifest()).encode() + b" " * (bundle.MAX_MANIFEST_BYTES + 1), "more than"),
    ],
)
def test_a_manifest_that_lies_is_told(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        bundle.read(write(tmp_path / "bundle", content))


@pytest.mark.parametrize("place", [(), ("provenance",), ("labels", 0), ("files", MODEL)])
@pytest.mark.parametrize("depth", [100, 245, 260, 600, 900, 1100])
def test_what_is_read_is_never_too_deep_to_be_written(
    tmp_path: Path, place: tuple[Any, ...], depth: int
) -> None:
    value = manifest()
    inner: Any = value
    for key in place:
        inner = inner[key]
    inner["deep"] = "HERE"
    text = json.dumps(value).replace('"HERE"', '[{"a":' * (depth // 2) + "1" + "}]" * (depth // 2))
    folder = write(tmp_path / "bundle", text.encode())
    refusal = refused(lambda: sound(bundle.read(folder)))
    assert (refusal is None) == (depth < 250)


def bombs() -> Iterator[bytes]:
    """Give manifests as large as one may be, of very many very small things."""
    scorecard = manifest()["scorecard"] | {"recall_drop": "HERE"}
    for value, form, item in (
        (manifest(labels="HERE"), "[]", lambda _number: "0"),
        (manifest(unknown="HERE"), "[]", lambda _number: "{}"),
        (manifest(scorecard=scorecard), "{}", '"{:06}":{{}}'.format),
    ):
        before, after = json.dumps(value).split('"HERE"')
        room = bundle.MAX_MANIFEST_BYTES - len(before) - len(after) - len(form)
        items = ",".join(map(item, range(room // (len(item(0)) + 1))))
        yield (before + form[0] + items + form[1] + after).encode()


MEASURED = """
import resource, sys
from pathlib import Path
from edge_agent.contracts import bundle
from edge_agent.contracts.errors import BundleError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before = peak()
for folder in sys.argv[1:]:
    try:
        bundle.read(Path(folder))
    except BundleError:
        pass
print(peak() - before)
"""


@pytest.mark.slow
def test_the_largest_manifest_takes_bounded_memory(tmp_path: Path) -> None:
    folders = []
    for number, content in enumerate(bombs()):
        assert bundle.MAX_MANIFEST_BYTES - 100 < len(content) <= bundle.MAX_MANIFEST_BYTES
        folders.append(str(write(tmp_path / str(number), content)))
    command = [sys.executable, "-c", MEASURED, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 400


# The folder -------------------------------------------------------------------------------------------


def _to_itself(file: Path) -> None:
    file.symlink_to(file.name)


def _out_of_the_folder(file: Path) -> None:
    (file.parent.parent / file.name).write_bytes(FILES.get(file.name) or json.dumps(manifest()).encode())
    file.symlink_to(f"../{file.name}")


def _socket(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(file.parent)  # a socket's path has 107 bytes at most
        try:
            made.bind(file.name)
        finally:
            os.chdir(here)


INSTEAD: dict[str, Callable[[Path], object]] = {
    "nothing": lambda file: file,
    "a folder": Path.mkdir,
    "a link to itself": _to_itself,
    "a link out of the folder": _out_of_the_folder,
    "a link to nothing": lambda file: file.symlink_to("nowhere"),
    "an endless device": lambda file: file.symlink_to("/dev/zero"),
    "a pipe": os.mkfifo,
    "a socket": _socket,
    "an empty file": Path.touch,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", [MANIFEST, MODEL, GOLDEN])
@pytest.mark.parametrize("kind", INSTEAD)
def test_something_else_instead_of_a_file(tmp_path: Path, name: str, kind: str) -> None:
    folder = write(tmp_path / "bundle")
    (folder / name).unlink()
    INSTEAD[kind](folder / name)
    assert refused(lambda: bundle.read(folder))


@SEVERAL
@given(
    st.sampled_from([MODEL, GOLDEN]),
    st.integers(0, 10**6),
    st.integers(1, 255),
    st.sampled_from(["flip", "cut", "append"]),
)
def test_every_byte_of_every_file_counts(name: str, place: int, change: int, how: str) -> None:
    content = bytearray(FILES[name])
    if how == "flip":
        content[place % len(content)] ^= change
    elif how == "cut":
        del content[place % len(content) :]
    else:
        content.append(change)
    with written(manifest(), FILES | {name: bytes(content)}) as folder:
        assert refused(lambda: bundle.read(folder))


@SEVERAL
@given(
    st.sampled_from(
        ["../secret", "/etc/passwd", "a/b", "./model", "..", ".", "", "a\0", "a\n", ".hid", "a" * 101]
    )
    | texts
    | st.text(alphabet="./a\\~", max_size=6)
)
def test_a_file_is_named_plainly_or_refused(name: str) -> None:
    entry = {"sha256": hashlib.sha256(b"secret").hexdigest(), "size": 6}
    value = manifest(files=manifest()["files"] | {name: entry})
    with written(value) as folder:
        (folder.parent / "secret").write_bytes(b"secret")
        judge(folder)
        if any(letter in name for letter in "/\\\0\n~") or name.startswith("."):
            assert refused(lambda: bundle.read(folder))


@pytest.mark.parametrize(
    "entry",
    [
        {"size": 0},
        {"size": -1},
        {"size": 2**31},
        {"size": 2**80},
        {"size": 46},
        {"size": "many"},
        {"sha256": "ab" * 32},
        {"sha256": "AB" * 32},
        {"sha256": ""},
        {"sha256": None},
    ],
)
def test_a_lying_entry_is_refused(tmp_path: Path, entry: dict[str, object]) -> None:
    value = manifest()
    value["files"][MODEL] |= entry
    folder = write(tmp_path / "bundle", value)
    assert refused(lambda: bundle.read(folder))


def test_files_that_are_too_large_together_are_refused_before_they_are_read(tmp_path: Path) -> None:
    value = manifest()
    for number in range(3):
        name = f"more{number}"
        value["files"][name] = {"sha256": "ab" * 32, "size": bundle.MAX_BYTES // 2}
        with (write(tmp_path / "bundle", value) / name).open("wb") as file:
            file.truncate(bundle.MAX_BYTES // 2)  # a hole, which takes no room
    with pytest.raises(BundleError, match="in all"):
        bundle.read(tmp_path / "bundle")


@pytest.mark.parametrize("name", [MANIFEST, "missing.tflite"])
def test_a_file_too_many_in_the_manifest_is_refused(tmp_path: Path, name: str) -> None:
    value = manifest(files=manifest()["files"] | {name: manifest()["files"][MODEL]})
    folder = write(tmp_path / "bundle", value)
    assert refused(lambda: bundle.read(folder))


@pytest.mark.parametrize("name", [MODEL, GOLDEN])
def test_a_file_too_few_in_the_manifest_is_refused(tmp_path: Path, name: str) -> None:
    value = manifest()
    del value["files"][name]
    folder = write(tmp_path / "bundle", value)
    assert refused(lambda: bundle.read(folder))


def test_files_that_the_manifest_does_not_name_are_nobodys_business(tmp_path: Path) -> None:
    folder = write(tmp_path / "bundle")
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    sound(bundle.read(folder))


@pytest.mark.parametrize("name", ["missing", "file", "loop", "x" * 300, "file/below", "null\0"])
def test_a_folder_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    assert refused(lambda: bundle.read(tmp_path / name))


# Golden vectors ---------------------------------------------------------------------------------------


@settings(SEVERAL, max_examples=300)
@given(
    st.sampled_from([npz(), npz(np.savez_compressed)]),
    st.lists(st.tuples(st.integers(-(10**4), 10**4), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 40),
)
def test_golden_vectors_with_bytes_flipped(content: bytes, flips: list[tuple[int, int]], cut: int) -> None:
    changed = bytearray(content)
    for place, byte in flips:
        changed[place % len(changed)] = byte
    del changed[len(changed) - max(0, cut - 30) :]
    files = FILES | {GOLDEN: bytes(changed)}
    with written(manifest(files), files) as folder:
        sound(bundle.read(folder))
        judge(folder)


headers = st.fixed_dictionaries(
    {
        "descr": st.sampled_from(["|u1", "<f4", ">f4", "|O", "<U99", "|V8", [("a", "|u1")], "", 7])
        | st.text("<>|=uifcOSUVMm0123456789", max_size=6),
        "fortran_order": st.booleans() | leaves,
        "shape": st.lists(st.integers(-2, 5), max_size=5).map(tuple)
        | st.sampled_from([(2**70,), (10**15, 0), (-1, -96), (2.0,), "()", (True, 2)]),
    }
)


def npy(header: bytes, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + IMAGES.tobytes()


def zipped(images: bytes, **changes: Any) -> bytes:  # noqa: ANN401 - any field of the archive's entry
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", images)
        archive.writestr("scores.npy", zipfile.ZipFile(io.BytesIO(FILES[GOLDEN])).read("scores.npy"))
        for key, value in changes.items():
            setattr(archive.filelist[0], key, value)
    return file.getvalue()


@SEVERAL
@given(headers.map(lambda fields: repr(fields).encode() + b"\n") | st.binary(max_size=60), st.integers(1, 3))
@example(b"{'descr': '|u1', 'fortran_order': False, 'shape': (2L, 4L, 4L, 3L)}\n", 1)
@example(rb"{'descr': '\d', 'fortran_order': 1 is 1, 'shape': (2if 1else 3,)}", 1)
@example(b"(" * 9000, 1)
@example(b"-" * 9000 + b"1", 1)
@example(b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"9" * 6000 + b",)}", 1)
def test_golden_vectors_with_any_header(header: bytes, version: int) -> None:
    files = FILES | {GOLDEN: zipped(npy(header, version))}
    with written(manifest(files), files) as folder:
        judge(folder)


def _directory(entries: int) -> bytes:
    """An archive that is all directory."""
    entry = struct.pack("<4s4B4H3I5H2I", b"PK\x01\x02", 20, 3, 20, 0, *[0] * 14)
    size = len(entry) * entries
    return entry * entries + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, size, 0, 0)


CLAIM = npy(b"{'descr': '|u1', 'fortran_order': False, 'shape': (" + b"9" * 13 + b",)}\n")
ZEROS = np.zeros((70_000_000 // 48, 4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "arrays"),
        (b"PK\x03\x04", "arrays"),
        (npz(images=np.array([{}])), "objects"),
        (npz(images=np.zeros((2, 4, 4), np.uint8)), "golden images"),
        (npz(images=np.zeros((0, 4, 4, 3), np.uint8)), "golden images"),
        (npz(images=np.zeros((1, 4, 4, 3), np.uint8)), "golden images"),
        (npz(images=IMAGES.astype(np.int16)), "golden images"),
        (npz(scores=SCORES.astype(np.float64)), "golden images"),
        (npz(scores=np.full((2, 3), np.nan, np.float32)), "NaN"),
        (zipped(CLAIM), "whose header says"),
        (zipped(CLAIM, file_size=10**13), "claim to become"),
        (zipped(CLAIM, file_size=10**13, compress_size=10**13), "claim to become"),
        (zipped(npy(b"{}")), "images"),
        (zipped(npy(b"{}"), flag_bits=1), "password"),
        (zipped(npy(b"{}"), compress_type=zipfile.ZIP_LZMA), "does not write"),
        (zipped(npy(b"{}"), header_offset=10**6), "arrays"),
        (npz(np.savez_compressed, images=ZEROS), "more than"),
        (_directory(100_000), "directory"),
    ],
)
def test_golden_vectors_that_are_none_are_told(tmp_path: Path, content: bytes, said: str) -> None:
    files = FILES | {GOLDEN: content or b"\0"}
    found = bundle.read(write(tmp_path / "bundle", manifest(files), files))
    with pytest.raises(BundleError, match=said):
        found.golden()


# What this version does not know ----------------------------------------------------------------------


def known(value: Any) -> Any:  # noqa: ANN401 - JSON
    """What JSON makes of a value: what a reader gets when it was written."""
    return json.loads(json.dumps(value))


def test_files_for_other_targets_and_what_is_said_of_them_stay(tmp_path: Path) -> None:
    files = FILES | {"model.edgetpu.tflite": b"for another target"}
    value = manifest(
        files,
        targets={"edgetpu": {"file": "model.edgetpu.tflite", "runtime": ">=16"}, "cpu": None},
        comment=None,
    )
    value["files"][MODEL]["target"] = "cpu"
    value["labels"][1]["shelf_life_days"] = 9
    value["provenance"]["quantizer"] = "next year's"
    found = bundle.read(write(tmp_path / "bundle", value, files))
    again = bundle.read(write(tmp_path / "again", rewritten(found.manifest), files))
    assert again.manifest == found.manifest
    for key in ("targets", "comment", "files"):
        assert json.loads((again.path / MANIFEST).read_bytes())[key] == value[key]
    assert again.manifest.model_dump()["labels"][1]["shelf_life_days"] == 9


unknown = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12).map("x-{}".format)
    | st.sampled_from(["targets", "label_names", "model_dump", "__class__", "__dict__", "self"]),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**30), 10**30)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


@SEVERAL
@given(unknown, unknown, unknown)
def test_fields_that_a_reader_does_not_know_survive_it(
    top: dict[str, Any], label: dict[str, Any], entry: dict[str, Any]
) -> None:
    value = manifest() | top
    value["labels"][2] |= label
    value["files"][MODEL] |= entry
    with written(value) as folder:
        first = bundle.read(folder)
        (folder / MANIFEST).write_bytes(rewritten(first.manifest))
        again = bundle.read(folder)
        sound(again)
        kept = json.loads((folder / MANIFEST).read_bytes())
    assert again.manifest.label_names == ["empty", "milk-1l", "tea"]
    assert kept == known(value) | {"labels": kept["labels"]}
    assert kept["labels"][2] == known({"label": "tea", "name": "", **label})
