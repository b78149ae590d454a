"""Images of every source become the same kind of bundle, split without leakage, in flat memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from windlass.data.bundle import Bundle
from windlass.data.description import SPLITS, DatasetDescription, PixelsTransform, SplitName
from windlass.data.errors import BadFileError, DataError, SplitError, TargetError
from windlass.data.images import BadImageError, ImageSizesDifferError
from windlass.data.images.errors import UnusedImageSettingError

Prepare = Callable[..., tuple[DatasetDescription, Path]]
Write = Callable[..., Path]


def _noise(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def _rows(output: Path, split: SplitName) -> list[tuple[bytes, int]]:
    table = Bundle.open(output).table(split)
    return list(zip(table["image"].to_pylist(), table["label"].to_pylist(), strict=True))


def _members(output: Path) -> dict[str, set[bytes]]:
    return {split: {image for image, _ in _rows(output, split)} for split in SPLITS}


def _pair(count: int = 200, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    return _noise(count, 6, 5), np.arange(count) % classes


def test_digits_are_scaled_to_bytes_and_split_by_class(prepared: Prepare) -> None:
    description, output = prepared("sklearn:digits")
    assert description.image_shape == (8, 8, 1)
    assert description.class_names == tuple("0123456789")
    assert sum(description.rows.values()) == 1797
    pixels = np.frombuffer(b"".join(image for image, _ in _rows(output, "train")), dtype=np.uint8)
    assert pixels.max() == 255
    assert set(np.unique(pixels)) <= {round(value * 255 / 16) for value in range(17)}


@pytest.mark.parametrize("zipped", [False, True])
def test_an_idx_pair_keeps_every_pixel_and_label(prepared: Prepare, write_idx: Write, zipped: bool) -> None:
    images, labels = _pair()
    description, output = prepared(write_idx(images, labels + 3, zipped=zipped))
    assert description.class_names == ("3", "4", "5", "6")
    found = sorted(row for split in SPLITS for row in _rows(output, split))
    assert found == sorted((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))
    assert DatasetDescription.read(output / "dataset.json") == description


def test_the_labels_file_is_found_by_its_content_in_a_pair_given_by_hand(prepared: Prepare, write_idx: Write) -> None:
    folder = write_idx(*_pair())
    source = (str(folder / "train-labels-idx1-ubyte"), str(folder / "train-images-idx3-ubyte"))
    assert prepared(source)[0].rows == prepared(folder)[0].rows


def test_each_class_is_split_to_the_exact_row(prepared: Prepare, write_idx: Write) -> None:
    description, _ = prepared(write_idx(*_pair(400, 4)), split={"validation": 0.2, "test": 0.1})
    assert description.class_counts == {"train": (70,) * 4, "validation": (20,) * 4, "test": (10,) * 4}


def test_a_split_depends_on_pixels_and_seed_not_on_order_or_kind_of_source(
    prepared: Prepare, write_idx: Write, write_folder: Write
) -> None:
    images, labels = _pair()
    order = np.random.default_rng(1).permutation(len(images))
    first, first_output = prepared(write_idx(images, labels))
    shuffled, shuffled_output = prepared(write_idx(images[order], labels[order], name="shuffled"))
    by_class = {str(label): images[labels == label] for label in range(4)}
    folder, folder_output = prepared(write_folder(by_class))
    assert _members(first_output) == _members(shuffled_output) == _members(folder_output)
    assert first.fingerprint == shuffled.fingerprint == folder.fingerprint
    assert first.transforms == shuffled.transforms == folder.transforms
    _, other_output = prepared(tmp_source := first_output.parent / "idx", split={"seed": 1})
    assert tmp_source.is_dir()
    assert _members(first_output) != _members(other_output)


def test_exact_copies_never_cross_splits_even_with_several_labels(prepared: Prepare, write_idx: Write) -> None:
    images = np.repeat(_noise(60, 4, 4), 5, axis=0)
    labels = np.arange(300) % 2
    description, output = prepared(write_idx(images, labels))
    members = _members(output)
    assert not members["train"] & members["validation"]
    assert not members["train"] & members["test"]
    assert not members["validation"] & members["test"]
    assert sum(description.rows.values()) == 300
    assert "180 images are exact copies of others" in description.warnings[0]
    assert "60 images stand in the data with several labels" in description.warnings[1]


def test_mean_and_deviation_are_those_of_train_only(prepared: Prepare, write_folder: Write) -> None:
    images = {label: _noise(40, 5, 6, 3, seed=seed) for seed, label in enumerate(("cat", "dog"))}
    description, output = prepared(write_folder(images))
    assert description.image_shape == (5, 6, 3)
    train = np.frombuffer(b"".join(image for image, _ in _rows(output, "train")), dtype=np.uint8).reshape(-1, 3) / 255
    (pixels,) = description.transforms
    assert isinstance(pixels, PixelsTransform)
    assert pixels.mean == pytest.approx(train.mean(axis=0))
    assert pixels.std == pytest.approx(train.std(axis=0))


def test_one_colour_image_makes_all_colour_and_only_grey_ones_make_grey(prepared: Prepare, write_folder: Write) -> None:
    grey = {label: list(_noise(10, 4, 4, seed=seed)) for seed, label in enumerate("ab")}
    assert prepared(write_folder(grey))[0].image_shape == (4, 4, 1)
    grey["a"].append(_noise(1, 4, 4, 3)[0])
    description, output = prepared(write_folder(grey, name="mixed"))
    assert description.image_shape == (4, 4, 3)
    assert {len(image) for image, _ in _rows(output, "train")} == {48}


def test_a_channel_without_contrast_is_not_divided_by_zero(prepared: Prepare, write_folder: Write) -> None:
    images = _noise(40, 4, 4, 3)
    images[..., 2] = 0
    (pixels,) = prepared(write_folder({"a": images[:20], "b": images[20:]}))[0].transforms
    assert isinstance(pixels, PixelsTransform)
    assert (pixels.mean[2], pixels.std[2]) == (0.0, 1.0)


def test_sizes_that_differ_are_refused_with_two_files_and_the_setting(prepared: Prepare, write_folder: Write) -> None:
    source = write_folder({"cat": _noise(5, 8, 9, 3), "dog": _noise(4, 8, 10, 3)})
    with pytest.raises(ImageSizesDifferError) as caught:
        prepared(source)
    assert str(caught.value) == (
        "images differ in size: cat/0000.png is 8×9 and dog/0000.png is 8×10 (height×width); "
        "set data.image_size, such as [8, 9]"
    )
    assert prepared(source, image_size=[6, 7])[0].image_shape == (6, 7, 3)


def test_image_size_holds_for_idx_and_digits_too(prepared: Prepare, write_idx: Write) -> None:
    assert prepared(write_idx(*_pair()), image_size=[3, 3])[0].image_shape == (3, 3, 1)
    assert prepared("sklearn:digits", image_size=[4, 6])[0].image_shape == (4, 6, 1)


def _with_bad_images(folder: Path) -> Path:
    good = (folder / "cat" / "0000.png").read_bytes()
    (folder / "cat" / "cut.png").write_bytes(good[: len(good) // 2])
    (folder / "dog" / "text.png").write_bytes(b"this is text")
    (folder / "dog" / "empty.jpg").write_bytes(b"")
    huge = bytearray(good)
    huge[16:24] = (60_000).to_bytes(4, "big") * 2
    (folder / "cat" / "huge.png").write_bytes(huge)
    return folder


@pytest.mark.attack
def test_bad_images_are_dropped_counted_and_named(prepared: Prepare, write_folder: Write) -> None:
    source = _with_bad_images(write_folder({"cat": _noise(20, 32, 32), "dog": _noise(20, 32, 32, seed=1)}))
    description, _ = prepared(source)
    assert sum(description.rows.values()) == 40
    assert sum(description.dropped_rows.values()) == 4
    named = " ".join(description.warnings)
    assert all(name in named for name in ("cat/cut.png", "dog/text.png", "dog/empty.jpg", "cat/huge.png"))


@pytest.mark.attack
@pytest.mark.parametrize("kept", ["cat/cut.png", "dog/text.png", "dog/empty.jpg", "cat/huge.png"])
def test_bad_images_are_refused_where_the_recipe_says_so(prepared: Prepare, write_folder: Write, kept: str) -> None:
    source = _with_bad_images(write_folder({"cat": _noise(20, 32, 32), "dog": _noise(20, 32, 32, seed=1)}))
    for path in list(source.rglob("*")):
        if path.is_file() and path.stem.isalpha() and path.relative_to(source).as_posix() != kept:
            path.unlink()
    with pytest.raises(BadImageError, match=rf"^{kept} .*repair or remove it, or set data.bad_images: drop"):
        prepared(source, bad_images="refuse")


def test_a_class_whose_images_are_all_damaged_is_named(prepared: Prepare, write_folder: Write) -> None:
    source = write_folder({"cat": _noise(20, 16, 16), "dog": _noise(20, 16, 16), "owl": _noise(2, 16, 16)})
    for length in (150, 10):
        for path in (source / "owl").iterdir():
            path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(TargetError, match="no image of the class 'owl' opens"):
            prepared(source)


def test_a_folder_in_which_nothing_opens_is_refused(prepared: Prepare, write_folder: Write) -> None:
    source = write_folder({"cat": _noise(2, 4, 4), "dog": _noise(2, 4, 4)})
    for path in source.rglob("*.png"):
        path.write_bytes(b"text")
    with pytest.raises(TargetError, match=r"none of the 4 images opens; the first is cat/0000\.png \(none of PNG"):
        prepared(source)


@pytest.mark.attack
def test_one_class_only_is_refused(prepared: Prepare, write_folder: Write, write_idx: Write) -> None:
    with pytest.raises(TargetError, match="all images are of the class 'cat'"):
        prepared(write_folder({"cat": _noise(9, 4, 4)}))
    with pytest.raises(TargetError, match="all images are of the class '7'"):
        prepared(write_idx(_noise(9, 4, 4), np.full(9, 7)))


def test_too_few_images_for_a_split_are_refused(prepared: Prepare, write_idx: Write) -> None:
    with pytest.raises(SplitError, match="validation gets none of the 4 images"):
        prepared(write_idx(*_pair(4, 2)))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"target": "label"}, "data.target"),
        ({"columns": {"a": "number"}}, "data.columns"),
        ({"drop": ["a"]}, "data.drop"),
        ({"split": {"group": "patient"}}, "data.split.group"),
        ({"split": {"time": "day"}}, "data.split.time"),
        ({"split": {"column": "part"}}, "data.split.column"),
    ],
)
def test_settings_of_tables_are_refused(prepared: Prepare, settings: dict[str, Any], key: str) -> None:
    with pytest.raises(
        UnusedImageSettingError, match=rf"^{key} is for tables: images have a label and no columns; remove it$"
    ):
        prepared("sklearn:digits", **settings)


def test_nothing_but_shards_and_the_description_stays_behind(prepared: Prepare, write_idx: Write) -> None:
    description, output = prepared(write_idx(*_pair()))
    shards = {name for names in description.shards.values() for name in names}
    assert {path.name for path in output.iterdir()} == shards | {"dataset.json"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads peak memory from /proc")
def test_memory_stays_flat_with_ten_times_the_images(write_idx: Write, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from windlass.data.config import DataConfig; from windlass.data.sources import resolve_source\n"
        "from windlass.data.images import prepare_images; import pyarrow.parquet\n"
        "source = resolve_source(sys.argv[1], Path())\n"
        "prepare_images(DataConfig(source=sys.argv[1]), source=source, output=Path(sys.argv[2]),"
        " memory_limit_bytes=10**9, threads=2)\n"
        # Not getrusage: that counts what the parent held when it forked.
        "status = Path('/proc/self/status').read_text()\n"
        "print(next(line.split()[1] for line in status.splitlines() if line.startswith('VmHWM')))"
    )
    peaks_kb = []
    for count in (4_000, 40_000):
        images = np.tile(_noise(1000, 64, 64), (count // 1000, 1, 1))
        images[:, 0, :4] = np.arange(count, dtype=">u4").view(np.uint8).reshape(count, 4)
        source = write_idx(images, np.arange(count) % 10, name=f"idx-{count}")
        del images
        output = tmp_path / f"output-{count}"
        output.mkdir()
        run = subprocess.run(
            [sys.executable, "-c", script, str(source), str(output)], check=True, capture_output=True, text=True
        )
        peaks_kb.append(int(run.stdout))
        shutil.rmtree(source)
        shutil.rmtree(output)
    # 36,000 more images are 147 MB of pixels.
    assert peaks_kb[1] - peaks_kb[0] < 60_000


@pytest.mark.figures
def test_mnist_is_prepared_from_its_own_files(prepared: Prepare, mnist: str) -> None:
    description, _ = prepared(mnist)
    assert description.rows == {"train": 7000, "validation": 1500, "test": 1500}
    assert description.image_shape == (28, 28, 1)
    (pixels,) = description.transforms
    assert isinstance(pixels, PixelsTransform)
    assert pixels.mean[0] == pytest.approx(0.1325, abs=0.002)
    assert pixels.std[0] == pytest.approx(0.3105, abs=0.002)


def test_an_image_outside_any_class_is_refused(prepared: Prepare, write_folder: Write) -> None:
    source = write_folder({"cat": _noise(9, 4, 4), "dog": _noise(9, 4, 4)})
    Image.new("L", (4, 4)).save(source / "lost.png")
    with pytest.raises(BadFileError, match=r"lost\.png: it lies in no class"):
        prepared(source)


def test_images_that_all_turn_out_to_be_cut_off_name_their_class(prepared: Any, write_folder: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (4, 64, 64), dtype=np.uint8)
    folder = write_folder({"cat": noise, "dog": noise})
    for path in folder.glob("*/*.png"):
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"no image of the class 'cat' opens; repair them or remove the folder"):
        prepared(folder)
