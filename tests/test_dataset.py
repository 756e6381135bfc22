"""Finding images and their classes, refusing what cannot be trained on, and holding some out."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from portnet.data import find_splits, load_dataset, split
from portnet.data.loader import Loader
from portnet.errors import DataError, InputError, UnknownNameError
from portnet.graph.metadata import Preprocessing


def write(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade % 256, shade // 256, 7)).save(path)


@pytest.fixture
def pets(tmp_path):
    """Two cats, three dogs (one of them nested), and what people leave lying about."""
    root = tmp_path / "pets"
    for i, name in enumerate(["dog/b.png", "dog/young/c.JPG", "cat/2.png", "cat/10.webp", "dog/a.bmp"]):
        write(root / name, i)
    for junk in ("cat/notes.txt", "cat/Thumbs.db", "dog/.DS_Store", "cat/._2.png", "README.md"):
        (root / junk).write_bytes(b"junk")
    write(root / ".cache" / "x.png")
    write(root / "cat" / ".trash" / "x.png")
    write(root / "__MACOSX" / "cat" / "x.png")
    return root


def names(dataset):
    return [os.path.basename(item) for item in dataset.items]


def damage(path):
    """Cut a real image in half: its header stays good."""
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_folder_of_class_folders(pets):
    dataset = load_dataset(pets)
    assert dataset.classes == ("cat", "dog")
    assert names(dataset) == ["10.webp", "2.png", "a.bmp", "b.png", "c.JPG"]
    assert dataset.labels.dtype == np.int64
    assert dataset.labels.tolist() == [0, 0, 1, 1, 1]
    assert dataset.counts() == {"cat": 2, "dog": 3}
    assert len(dataset) == 5
    assert load_dataset(dataset) is dataset


def test_order_does_not_come_from_the_file_system(pets, monkeypatch):
    expected = load_dataset(pets).items
    real = os.scandir

    class Reversed:
        def __init__(self, path):
            self.entries = list(real(path))[::-1]

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert load_dataset(pets).items == expected


def test_links_to_folders_count_and_circles_end(pets, tmp_path):
    write(tmp_path / "elsewhere" / "fox.png")
    (pets / "fox").symlink_to(tmp_path / "elsewhere")
    (pets / "cat" / "again").symlink_to(pets / "cat")
    (pets / "dog" / "loop").symlink_to("loop")
    assert load_dataset(pets).counts() == {"cat": 2, "dog": 3, "fox": 1}


def test_a_link_back_above_a_class_brings_no_other_class_into_it(pets):
    (pets / "cat" / "up").symlink_to("..")
    (pets / "cat" / "top").symlink_to(pets.parent.parent)
    assert load_dataset(pets).counts() == {"cat": 2, "dog": 3}


def test_pairs_arrays_and_mappings_are_the_same_images(pets):
    folder = load_dataset(pets)
    pairs = [(path, folder.classes[label]) for path, label in zip(folder.items, folder.labels, strict=True)]
    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in folder.items])
    labels = folder.labels
    sources = [
        load_dataset(pairs),
        load_dataset((pixels, [label for _, label in pairs])),
        load_dataset({"images": pixels, "labels": np.array([label for _, label in pairs])}),
        load_dataset((pixels, labels), classes=folder.classes),
        load_dataset(folder.items, labels=labels, classes=["cat", "dog"]),
        load_dataset(
            [(image, int(label)) for image, label in zip(pixels, labels, strict=True)], classes=("cat", "dog")
        ),
    ]
    plain = Preprocessing(size=(6, 8), resize=None)
    (expected, _), *_ = Loader(folder, plain, 5, shuffle=False, seed=0).epoch(0)
    for dataset in sources:
        assert dataset.classes == ("cat", "dog")
        assert dataset.labels.tolist() == labels.tolist()
        (x, y), *_ = Loader(dataset, plain, 5, shuffle=False, seed=0).epoch(0)
        assert np.array_equal(x, expected)
        assert np.array_equal(y, labels)


def test_class_numbers_name_themselves():
    dataset = load_dataset((np.zeros((4, 5, 5), np.uint8), np.array([1, 0, 2, 1])))
    assert dataset.classes == ("0", "1", "2")
    assert dataset.counts() == {"0": 1, "1": 2, "2": 1}


def test_fixed_classes_allow_absence_but_not_strangers(pets):
    shutil.rmtree(pets / "dog")
    dataset = load_dataset(pets, classes=("dog", "cat", "cow"))
    assert dataset.counts() == {"dog": 0, "cat": 2, "cow": 0}
    with pytest.raises(UnknownNameError, match=r"unknown class 'cat'. Did you mean 'cats'"):
        load_dataset(pets, classes=("cats", "dogs"))
    with pytest.raises(DataError, match="'cat' stands more than once"):
        load_dataset(pets, classes=("cat", "dog", "cat"))


def test_no_such_folder(tmp_path):
    with pytest.raises(DataError, match=r"no such folder: got '.*nowhere'"):
        load_dataset(tmp_path / "nowhere")


def test_a_file_is_no_folder(pets):
    with pytest.raises(DataError, match=r"not a folder: got the file '.*README.md'"):
        load_dataset(str(pets / "README.md"))


def test_no_class_folders(pets):
    with pytest.raises(DataError, match=r"no class folders in '.*young'"):
        load_dataset(pets / "dog" / "young")


def test_no_image_at_all(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match="no image found in"):
        load_dataset(tmp_path)
    with pytest.raises(DataError, match="no image found in the given list"):
        load_dataset([])


def test_one_class_only(pets):
    shutil.rmtree(pets / "dog")
    with pytest.raises(DataError, match="one class only: got 'cat'"):
        load_dataset(pets)


def test_an_empty_class_is_named(pets):
    (pets / "emu").mkdir()
    (pets / "emu" / "notes.txt").write_text("soon")
    with pytest.raises(DataError, match=r"class 'emu' has no image: expected at least one file that ends in \.jpg"):
        load_dataset(pets)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.png", b"\x89PNG"),
        ("empty.png", b""),
        ("page.jpg", b"<html>"),
        ("scan.tif", b"II*\0"),
        ("new.heic", b"heic"),
    ],
)
def test_an_unreadable_image_is_fatal_or_skipped(pets, name, content):
    (pets / "cat" / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"cannot read image '.*{name}'.*on_error='skip'"):
        load_dataset(pets)
    dataset = load_dataset(pets, on_error="skip")
    assert dataset.counts() == {"cat": 2, "dog": 3}
    assert [os.path.basename(path) for path, _ in dataset.skipped] == [name]
    assert ("not an image" if content else "the file is empty") in dataset.skipped[0].reason


def test_a_link_to_nowhere_is_an_unreadable_image(pets):
    (pets / "cat" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png"):
        load_dataset(pets)


def test_a_pipe_is_no_image(pets):
    os.mkfifo(pets / "cat" / "pipe.png")
    assert load_dataset(pets).counts()["cat"] == 2


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_damage_behind_the_header(pets, suffix):
    damage(pets / "cat" / f"half.{suffix}")
    loader = Loader(load_dataset(pets), Preprocessing(size=(8, 8)), 2, shuffle=True, seed=0)
    with pytest.raises(DataError, match=rf"half\.{suffix}"):
        list(loader.epoch(0))
    dataset = load_dataset(pets, on_error="skip")
    assert len(dataset) == 5
    assert [os.path.basename(path) for path, _ in dataset.skipped] == [f"half.{suffix}"]


def test_nothing_readable(pets):
    for path in load_dataset(pets).items:
        Path(path).write_bytes(b"no image")
    with pytest.raises(DataError, match="5 of 5 images cannot be read"):
        load_dataset(pets)
    with pytest.raises(DataError, match="no readable image among 5"):
        load_dataset(pets, on_error="skip")


def test_a_class_without_a_readable_image(pets):
    for name in ("2.png", "10.webp"):
        (pets / "cat" / name).write_bytes(b"no image")
    with pytest.raises(DataError, match="class 'cat' has no readable image"):
        load_dataset(pets, on_error="skip")


def test_images_beside_the_class_folders_are_reported(pets):
    write(pets / "stray.png")
    dataset = load_dataset(pets)
    assert len(dataset) == 5
    assert [(os.path.basename(path), reason) for path, reason in dataset.skipped] == [
        ("stray.png", "lies outside the class folders")
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((np.zeros((2, 4, 4, 3), np.float32), [0, 1]), "float32"),
        ((np.zeros((2, 3, 4, 4), np.uint8)[:, :, :, :2], [0, 1]), "channels last"),
        ((np.zeros((3, 4, 4), np.uint8), [0, 1]), "3 images and 2 labels"),
        ((np.zeros((2, 4, 4), np.uint8), [0, 2]), "class number 2, expected 0 to 1"),
        ((np.zeros((3, 4, 4), np.uint8), [0, 2, 2]), "class '1' has no image"),
        ((np.zeros((2, 4, 4), np.uint8), [0, -1]), "class number -1"),
        ((np.zeros((2, 4, 4), np.uint8), [0, "cat"]), "labels: got int, str"),
        ((np.zeros((2, 4, 4), np.uint8), [0.0, 1.0]), "labels: got float"),
        ((np.zeros((2, 4, 4), np.uint8), np.eye(2)), r"shape \(2, 2\)"),
        ({"images": []}, "expected 'images' and 'labels'"),
        (np.zeros((2, 4, 4), np.uint8), "with labels="),
        (7, "got int as data"),
    ],
)
def test_arrays_that_cannot_be_used(source, message):
    with pytest.raises(InputError, match=message):
        load_dataset(source)


def test_on_error_is_one_of_two(pets):
    with pytest.raises(InputError, match="expected 'fail' or 'skip'"):
        load_dataset(pets, on_error="ignore")


def test_explicit_splits_are_found(pets, tmp_path):
    root = tmp_path / "splits"
    assert find_splits(root) == {}
    shutil.copytree(pets, root / "Train")
    assert find_splits(root) == {"train": root / "Train"}
    shutil.copytree(pets, root / "valid")
    shutil.copytree(pets, root / "test")
    assert find_splits(root) == {"train": root / "Train", "val": root / "valid", "test": root / "test"}
    with pytest.raises(DataError, match=r"holds splits \(train, val, test\)"):
        load_dataset(root)
    shutil.copytree(pets, root / "val")
    with pytest.raises(DataError, match="'val' more than once"):
        find_splits(root)


def test_classes_that_are_called_like_splits(pets):
    assert find_splits(pets) == {}
    write(pets / "train" / "engine.png")
    assert load_dataset(pets).classes == ("cat", "dog", "train")


def numbered(*counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return load_dataset((np.zeros((len(labels), 2, 2), np.uint8), labels))


def members(dataset, part):
    position = {id(item): i for i, item in enumerate(dataset.items)}
    return [position[id(item)] for item in part.items]


def test_split_is_stratified_and_complete():
    dataset = numbered(40, 10, 2, 1)
    train, held_out = split(dataset, 0.3, seed=1)
    assert list(held_out.counts().values()) == [12, 3, 1, 0]
    assert list(train.counts().values()) == [28, 7, 1, 1]
    assert sorted(members(dataset, train) + members(dataset, held_out)) == list(range(53))
    assert members(dataset, train) == sorted(members(dataset, train))
    assert train.classes == held_out.classes == dataset.classes


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_split_leaves_something_on_both_sides(fraction):
    for part in split(numbered(2, 3, 9), fraction, seed=0):
        assert min(part.counts().values()) >= 1


def test_split_is_seeded():
    dataset = numbered(40, 40)
    held_out = [members(dataset, split(dataset, 0.25, seed)[1]) for seed in (3, 3, 4)]
    assert held_out[0] == held_out[1]
    assert held_out[0] != held_out[2]
    shifted = [i - 40 for i in held_out[0] if i >= 40]
    assert shifted != [i for i in held_out[0] if i < 40]  # each class is drawn on its own


@pytest.mark.parametrize(("fraction", "seed"), [(0, 0), (1, 0), (-0.1, 0), (0.2, -1)])
def test_split_refuses(fraction, seed):
    with pytest.raises(InputError):
        split(numbered(4, 4), fraction, seed)


def test_digest_follows_content_not_place(pets, tmp_path):
    digest = load_dataset(pets).digest()
    assert len(digest) == 64
    shutil.copytree(pets, tmp_path / "copy")
    assert load_dataset(tmp_path / "copy").digest() == digest
    write(tmp_path / "copy" / "cat" / "2.png", shade=99)
    assert load_dataset(tmp_path / "copy").digest() != digest
    (pets / "cat").rename(pets / "lynx")
    assert load_dataset(pets).digest() != digest


def test_digest_of_arrays():
    pixels = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
    digest = load_dataset((pixels, [0, 1])).digest()
    assert load_dataset((pixels.copy(), [0, 1])).digest() == digest
    assert load_dataset((pixels, [1, 0])).digest() != digest
    assert load_dataset((pixels.reshape(2, 2, 8), [0, 1])).digest() != digest
    assert load_dataset((pixels + 1, [0, 1])).digest() != digest
