"""Datasets of Hugging Face, torch and tf.data as sources: the same images and labels as from files."""

import io
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_runs import small_settings
from zoo_references import torchvision_models

import portnet
from portnet.data import Loader, load_dataset
from portnet.data.frameworks import labelled
from portnet.data.images import open_image
from portnet.errors import DataError, InputError, TrainingError, UnknownNameError
from portnet.finetuning.api import resume
from portnet.finetuning.callbacks import Callback
from portnet.finetuning.sets import prepare_data
from portnet.finetuning.settings import Settings
from portnet.graph.metadata import Preprocessing

PLAIN = Preprocessing(size=(6, 8), resize=None, scale=1, mean=(0, 0, 0), std=(1, 1, 1))
NAMES = ("cat", "dog", "owl")
LABELS = [1, 0, 2, 2, 1, 0, 1]


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (7, 6, 8, 3)).astype(np.uint8)


def seen(dataset):
    """The bytes of every image and the name of its class."""
    (x, y), *_ = Loader(dataset, PLAIN, len(dataset), shuffle=False, seed=0).epoch(0)
    return x.transpose(0, 2, 3, 1).astype(np.uint8), [dataset.classes[label] for label in y]


def check(source, pixels, labels=LABELS, names=NAMES):
    dataset = load_dataset(source)
    got, classes = seen(dataset)
    assert np.array_equal(got, pixels)
    assert classes == [names[label] for label in labels]
    assert dataset.classes == tuple(names)


# ---- Hugging Face


@pytest.fixture
def hub(pixels):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
    images = [Image.fromarray(image) for image in pixels]
    return datasets.Dataset.from_dict({"image": images, "label": LABELS}, features=features)


def test_a_hugging_face_dataset_is_read_row_by_row(hub, pixels):
    check(hub, pixels)
    check(hub.select([5, 0, 2]), pixels[[5, 0, 2]], [0, 1, 2])
    dataset = load_dataset(hub)
    assert len(dataset.digest()) == 64
    assert dataset.digest() != load_dataset(hub.select(range(6))).digest()


def test_a_stream_is_read_once(hub, pixels):
    check(hub.to_iterable_dataset(), pixels)
    check(hub.to_iterable_dataset(num_shards=3), pixels)


def test_formats_and_transforms_do_not_get_in_the_way(hub, pixels):
    check(hub.with_format("numpy"), pixels)
    check(hub.with_transform(lambda batch: {"image": [None], "label": [0]}), pixels)


def test_jpegs_in_a_table_are_decoded_as_files_are(tmp_path):
    datasets = pytest.importorskip("datasets")
    paths = []
    for i in range(4):
        paths.append(str(tmp_path / f"{i}.jpg"))
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (60, 80, 3)).astype(np.uint8)).save(paths[-1])
    table = {
        "image": [{"bytes": Path(path).read_bytes(), "path": None} for path in paths[:2]]
        + [{"bytes": None, "path": path} for path in paths[2:]]
    }
    hub = datasets.Dataset.from_dict({**table, "label": ["x", "y", "x", "y"]}).cast_column("image", datasets.Image())
    got, classes = seen(load_dataset(hub))
    expected, _ = seen(load_dataset(list(zip(paths, "xyxy", strict=True))))
    assert np.array_equal(got, expected)
    assert classes == list("xyxy")


def test_splits_of_a_dataset_dict_are_used(hub):
    datasets = pytest.importorskip("datasets")
    splits = datasets.DatasetDict({"train": hub, "validation": hub.select([0, 1]), "test": hub.select([2])})
    sets = prepare_data(splits, Settings("squeezenet1_1"))
    assert (len(sets.train), sets.val.counts(), sets.test.counts()["owl"]) == (7, {"cat": 1, "dog": 1, "owl": 0}, 1)


def test_renaming_and_known_classes_hold(hub, pixels):
    assert load_dataset(hub, rename={"cat": "tiger"}).classes == ("dog", "owl", "tiger")
    known = load_dataset(hub, classes=("owl", "ape", "dog", "cat"))
    assert known.labels.tolist() == [2, 3, 0, 0, 2, 3, 2]
    with pytest.raises(UnknownNameError, match="'cat'"):
        load_dataset(hub, classes=("owl", "dog"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda hub: hub.remove_columns("label"), "got no label among the columns 'image'"),
        (lambda hub: hub.rename_column("label", "breed").cast_column("breed", _int()), r"rename_column\('breed'"),
        (lambda hub: hub.remove_columns("image"), "got 0 columns of images among 'label'"),
        (lambda hub: hub.map(lambda row: {**row, "other": row["image"]}), "got 2 columns of images"),
        (lambda hub: hub.cast_column("label", _int()).map(lambda row: {"label": -1}), "got class number -1"),
    ],
)
def test_what_a_table_lacks_is_said(hub, change, words):
    with pytest.raises((InputError, DataError), match=words):
        load_dataset(change(hub))


def _int():
    import datasets

    return datasets.Value("int64")


def test_a_broken_row_is_named(hub):
    datasets = pytest.importorskip("datasets")
    broken = datasets.Dataset.from_dict({"image": [{"bytes": b"no", "path": None}] * 2, "label": ["a", "b"]})
    broken = broken.cast_column("image", datasets.Image())
    with pytest.raises(DataError, match="cannot read image 'row 0': not an image"):
        load_dataset(broken)
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, "PNG")
    cells = [{"bytes": file.getvalue() if i else b"no", "path": None} for i in range(3)]
    mended = datasets.Dataset.from_dict({"image": cells, "label": ["a", "b", "a"]}).cast_column(
        "image", datasets.Image()
    )
    assert load_dataset(mended, on_error="skip").skipped[0].path == "row 0"


# ---- torch


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


class Pairs:
    """A map-style dataset, to be mixed with torch's class."""

    def __init__(self, images, labels=LABELS):
        self.images, self.numbers, self.asked = images, labels, []

    def __len__(self):
        return len(self.numbers)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.images[index], self.numbers[index]


def pairs(torch, images, labels=LABELS, **attributes):
    dataset = type("Pairs", (Pairs, torch.utils.data.Dataset), {})(images, labels)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def test_items_of_a_torch_dataset(torch, pixels):
    forms = {
        "PIL": [Image.fromarray(image) for image in pixels],
        "channels last": pixels,
        "channels first": pixels.transpose(0, 3, 1, 2),
        "tensors": torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()),
    }
    for images in forms.values():
        check(pairs(torch, images, classes=NAMES), pixels)
        check(pairs(torch, images), pixels, names=("0", "1", "2"))
    tensors = torch.utils.data.TensorDataset(forms["tensors"], torch.tensor(LABELS))
    check(tensors, pixels, names=("0", "1", "2"))


def test_labels_that_a_dataset_keeps_cost_no_image(torch, pixels):
    dataset = pairs(torch, pixels, targets=torch.tensor(LABELS), classes=list(NAMES))
    assert load_dataset(dataset).counts() == {"cat": 2, "dog": 3, "owl": 2}
    assert dataset.asked == [0]
    one_hot = pairs(torch, pixels, [np.eye(3)[label] for label in LABELS], classes=NAMES)
    check(one_hot, pixels)


def test_parts_of_datasets(torch, pixels):
    data = torch.utils.data
    whole = pairs(torch, pixels, classes=NAMES)
    check(data.Subset(whole, [6, 2, 0, 1]), pixels[[6, 2, 0, 1]], [1, 2, 1, 0])
    check(data.ConcatDataset([whole, whole]), np.concatenate([pixels, pixels]), LABELS * 2, names=("0", "1", "2"))


def test_a_data_loader_gives_its_dataset(torch, pixels, hub):
    data = torch.utils.data
    whole = pairs(torch, pixels, classes=NAMES)
    check(data.DataLoader(whole, batch_size=3), pixels)
    check(data.DataLoader(whole, batch_size=3, shuffle=True, drop_last=True), pixels)
    check(data.DataLoader(hub), pixels)
    chosen = data.DataLoader(whole, sampler=data.SubsetRandomSampler([3, 1, 4]))
    check(chosen, pixels[[3, 1, 4]], [2, 0, 1])
    weighted = data.DataLoader(whole, sampler=data.WeightedRandomSampler([1.0] * 7, 7))
    with pytest.raises(InputError, match="draws with a WeightedRandomSampler: what it leaves out is not known"):
        load_dataset(weighted)
    with pytest.raises(InputError, match="draws with a RandomSampler"):
        load_dataset(data.DataLoader(whole, sampler=data.RandomSampler(whole, num_samples=3)))


def test_an_image_folder_is_its_files(torch, digits):
    torchvision_models()
    from torchvision import datasets, transforms

    folder = datasets.ImageFolder(digits)
    own = load_dataset(digits)
    assert load_dataset(folder).items == own.items
    assert load_dataset(folder).digest() == own.digest()
    smaller = datasets.ImageFolder(digits, transforms.Resize((6, 8)))
    got, classes = seen(load_dataset(smaller))
    assert np.array_equal(got[5], np.asarray(smaller[5][0]))
    assert classes[5] == "0"
    normalised = datasets.ImageFolder(digits, transforms.ToTensor())
    with pytest.raises(InputError, match=r"images of float32 with values from .* \(dataset\.transform = None"):
        load_dataset(normalised)


def test_a_torch_stream_is_read_once(torch, pixels):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(zip(pixels, LABELS, strict=True))

    check(Stream(), pixels, names=("0", "1", "2"))


def test_a_stream_without_end_is_refused(torch, pixels, monkeypatch):
    monkeypatch.setattr("portnet.data.frameworks.items.LIMIT", 100 * pixels[0].nbytes)

    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return itertools.cycle(zip(pixels, LABELS, strict=True))

    with pytest.raises(InputError, match=r"the Stream has no end or is too large .* after 100 images"):
        load_dataset(Stream())


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (np.zeros((6, 8, 3), np.uint8), "got ndarray as an item, expected a pair of image and label"),
        ((np.zeros((6, 8, 3), np.uint8),), "got tuple of 1 as an item"),
        ((np.zeros((3, 6, 8), np.float32), 1), "got images of float32 with values from 0 to 0"),
        ((np.zeros((6, 8, 3), np.uint8), None), "got NoneType as a label"),
        ((np.zeros((6, 8, 3), np.uint8), [0.3, 0.7]), r"got float64 of shape \(2,\) as a label"),
        ({"image": np.zeros((6, 8, 3), np.uint8)}, "expected 'image' and 'label'"),
    ],
)
def test_items_that_cannot_be_used_are_told(torch, item, words):
    class Odd(torch.utils.data.Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return item

    with pytest.raises(InputError, match=words):
        load_dataset(Odd())


# ---- tf.data


@pytest.fixture
def tf():
    return pytest.importorskip("tensorflow")


def test_a_tf_dataset_is_kept_as_bytes(tf, pixels):
    numbers = ("0", "1", "2")
    single = tf.data.Dataset.from_tensor_slices((pixels, LABELS))
    check(single, pixels, names=numbers)
    check(single.batch(3).prefetch(1), pixels, names=numbers)
    check(single.map(lambda x, y: {"image": x, "label": y}), pixels, names=numbers)
    check(single.map(lambda x, y: (x, tf.one_hot(y, 3))).batch(2), pixels, names=numbers)
    names = tf.data.Dataset.from_tensor_slices((pixels, [NAMES[label] for label in LABELS]))
    check(names.batch(4), pixels)


def test_keras_directories_are_read(tf, digits):
    keras = pytest.importorskip("keras")
    options = {"image_size": (6, 8), "shuffle": False, "verbose": False, "batch_size": 7}
    for mode in ("int", "categorical"):
        directory = keras.utils.image_dataset_from_directory(digits, label_mode=mode, **options)
        dataset = load_dataset(directory)
        got, classes = seen(dataset)
        expected = np.concatenate([x for x, _ in directory.as_numpy_iterator()])
        assert np.abs(got - expected).max() <= 0.5
        assert dataset.classes == ("0", "1", "7")
        assert classes == [name for name in "017" for _ in range(20)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (None, r"has no end: leave out repeat\(\)"),
        (lambda x, y: x, "expected a pair of image and label"),
        (lambda x, y: {"image": x}, "expected 'image' and 'label'"),
        (lambda x, y: (x / 255, y), "got images of float32 with values from 0 to 1"),
        (lambda x, y: (x / 127.5 - 1, y), r"PortNet normalises by itself\. Leave out the map"),
    ],
)
def test_what_a_tf_dataset_lacks_is_said(tf, pixels, change, words):
    pixels[0, 0, 0] = 0, 255, 255
    data = tf.data.Dataset.from_tensor_slices((pixels.astype(np.float32), LABELS))
    with pytest.raises(InputError, match=words):
        load_dataset(data.repeat() if change is None else data.map(change))


def test_a_black_image_is_not_taken_for_a_normalised_one(tf, pixels):
    pixels[3] = 0
    check(tf.data.Dataset.from_tensor_slices((pixels.astype(np.float32), LABELS)), pixels, names=("0", "1", "2"))


def test_an_endless_pipeline_of_unknown_length_is_refused(tf, pixels, monkeypatch):
    monkeypatch.setattr("portnet.data.frameworks.items.LIMIT", 30 * pixels[0].nbytes)
    endless = tf.data.Dataset.from_tensor_slices((pixels, LABELS)).repeat().filter(lambda x, y: y < 9)
    assert int(endless.cardinality()) == -2
    with pytest.raises(InputError, match=r"more than 4,320 bytes after 30 images\. Give a part of it with take"):
        load_dataset(endless)


# ---- all of them


def test_a_run_from_a_dataset_is_the_run_from_its_files(torch, digits, tmp_path):
    datasets = pytest.importorskip("datasets")
    options = {"backbone": "squeezenet1_1", "size": 48, "batch_size": 16, "freeze": "backbone", "epochs": 1}
    options |= {"progress": False, "backend": "torch", "seed": 1}
    own = load_dataset(digits)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(own.classes))})
    table = {"image": list(own.items), "label": own.labels.tolist()}
    hub = datasets.Dataset.from_dict(table, features=features)
    runs = [portnet.finetune(data, **options) for data in (digits, hub)]
    assert runs[0].history.losses == runs[1].history.losses
    assert runs[0].record["data"]["digest"] == runs[1].record["data"]["digest"]
    result = runs[1].evaluate(hub)
    assert result.accuracy == runs[0].evaluate(digits).accuracy
    assert "from memory" in str(result.ambiguity(3))
    runs[1].report(tmp_path / "report.html", hub)
    assert open_image(own.items[0]).size == open_image(result.images[0]).size


def test_a_run_from_a_torch_dataset_knows_it_again(torch, tmp_path):
    """Items that another library decodes are known by their pixels: a run is not gone on with on others."""

    class Fails(Callback):
        def on_step(self, step):
            raise ValueError("for a reason")

    settings = small_settings(backend="torch", epochs=1, batch_size=3, val=0)
    images = list(np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8))
    source = pairs(torch, images, [0, 1, 2] * 4, classes=["a", "b", "c"])
    with pytest.raises(TrainingError):
        portnet.finetune(source, out=tmp_path / "run", callbacks=[Fails()], **settings)
    changed = pairs(torch, [255 - image for image in images], [0, 1, 2] * 4, classes=["a", "b", "c"])
    again = {"progress": False, "backbone": settings["backbone"]}
    with pytest.raises(InputError, match="not those the run began with"):
        resume(tmp_path / "run", data=changed, **again)
    record = resume(tmp_path / "run", data=source, **again).record
    assert record["data"]["digest"] == [load_dataset(source).digest()]


def test_other_things_are_left_alone():
    assert labelled([("a.png", 0)]) is None
    assert labelled(np.zeros(3)) is None
    with pytest.raises(InputError, match=r"or a dataset of Hugging Face, torch or tf\.data"):
        load_dataset(object())


def test_no_framework_is_imported():
    program = "import sys, portnet.data; print([n for n in ('torch', 'tensorflow', 'datasets') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "[]"
