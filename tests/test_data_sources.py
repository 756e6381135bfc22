"""Data that would train something else than its owner believes, or that fails in somebody else's code."""

import shutil

import numpy as np
import pytest
from PIL import Image
from small_runs import small_settings

import portnet
from portnet.data import load_dataset
from portnet.errors import DataError, InputError
from portnet.finetuning import sets

LABELS = [1, 0, 2, 2, 1, 0]
REASON = "ValueError: no such pixel. The dataset's own code raises it"


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 8, 9, 3), np.uint8)


# ---- other libraries' datasets


@pytest.fixture
def data(pixels):
    """torch.utils.data, and a dataset of six images."""
    torch = pytest.importorskip("torch")
    return torch.utils.data, torch.utils.data.TensorDataset(torch.tensor(pixels), torch.tensor(LABELS))


def test_a_batch_sampler_leaves_out_what_its_sampler_does(data):
    data, whole = data
    chosen = data.BatchSampler(data.SubsetRandomSampler([0, 1, 2]), 2, drop_last=False)
    assert load_dataset(data.DataLoader(whole, batch_sampler=chosen)).labels.tolist() == [1, 0, 2]
    every = data.BatchSampler(data.SequentialSampler(whole), 4, drop_last=False)
    assert load_dataset(data.DataLoader(whole, batch_sampler=every)).labels.tolist() == LABELS
    assert load_dataset(data.DataLoader(whole, batch_size=None)).labels.tolist() == LABELS


def test_what_a_sampler_of_unknown_kind_leaves_out_is_asked_for(data):
    data, whole = data
    weighted = data.BatchSampler(data.WeightedRandomSampler([1.0] * 6, 6), 2, drop_last=False)
    with pytest.raises(InputError, match="draws with a WeightedRandomSampler"):
        load_dataset(data.DataLoader(whole, batch_sampler=weighted))
    with pytest.raises(InputError, match="draws with a SequentialSampler"):
        load_dataset(data.DataLoader(whole, sampler=data.SequentialSampler(range(3))))
    with pytest.raises(InputError, match="draws with a list"):
        load_dataset(data.DataLoader(whole, batch_sampler=[[0, 1], [2]]))


def raises(*_):
    raise ValueError("no such pixel")


def test_a_torch_dataset_that_fails_is_one_line(data):
    class Items(data[0].Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return (np.zeros((6, 8, 3), np.uint8), index % 2) if index < 3 else raises()

    class Stream(data[0].IterableDataset):
        def __iter__(self):
            yield from (Items()[i] for i in range(4))

    for dataset in (Items(), Stream()):
        with pytest.raises(DataError, match=f"^the {type(dataset).__name__} cannot be read: {REASON}") as error:
            load_dataset(dataset)
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="the Subset cannot be read: IndexError"):
        load_dataset(data[0].Subset(data[1], [0, 99]))


def test_a_hugging_face_stream_that_fails_is_one_line(pixels):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    images = [Image.fromarray(image) for image in pixels]
    whole = datasets.Dataset.from_dict({"image": images, "label": LABELS}, features=features)
    with pytest.raises(DataError, match=f"^the IterableDataset cannot be read: {REASON}"):
        load_dataset(whole.to_iterable_dataset().map(raises, features=features))


@pytest.fixture
def tf():
    return pytest.importorskip("tensorflow")


def test_a_tf_dataset_that_fails_is_one_line(tf):
    numbers = tf.data.Dataset.range(4)
    failing = numbers.map(lambda i: (tf.py_function(raises, [i], tf.uint8), i))
    with pytest.raises(DataError, match=r"cannot be read: \w+: .*ValueError: no such pixel\.") as error:
        load_dataset(failing)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="the _WindowDataset cannot be read: TypeError"):
        load_dataset(tf.data.Dataset.zip((numbers, numbers)).window(2))


@pytest.mark.parametrize("batch", [0, 1, 2, 4])
@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (8, 9, 3)])
@pytest.mark.parametrize("form", ["numbers", "column", "one-hot"])
def test_batches_of_grey_and_colour(tf, batch, shape, form):
    images = np.random.default_rng(0).integers(0, 256, (6, *shape), np.uint8)
    labels = {"numbers": LABELS, "column": [[label] for label in LABELS], "one-hot": np.eye(3)[LABELS]}[form]
    source = tf.data.Dataset.from_tensor_slices((images, labels))
    dataset = load_dataset(source.batch(batch) if batch else source)
    assert dataset.labels.tolist() == LABELS
    assert all(np.array_equal(found, image) for found, image in zip(dataset.items, images, strict=True))


# ---- the same image twice


@pytest.fixture
def folder(tmp_path):
    """Two classes of six images, all different."""
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(6):
            image = np.random.default_rng((number, len(name), ord(name[0]))).integers(0, 256, (12, 12, 3), np.uint8)
            Image.fromarray(image).save(tmp_path / "data" / name / f"{number}.png")
    return tmp_path / "data"


def said(source, capsys):
    pytest.importorskip("portnet_torch")
    portnet.finetune(source, backend="torch", epochs=1, cache="off", **small_settings(progress=True))
    return " ".join(capsys.readouterr().out.split())


def test_nothing_is_said_of_images_that_differ(folder, capsys):
    assert "byte for byte" not in said(folder, capsys)


def test_an_image_in_two_classes_is_said(folder, capsys):
    shutil.copy(folder / "cat" / "2.png", folder / "dog" / "six.png")
    shutil.copy(folder / "dog" / "3.png", folder / "cat" / "two\nlines.png")
    words = said(folder, capsys)
    assert "note: 2 images are in another class too, byte for byte, such as" in words
    assert r"two\nlines.png' (cat)" in words
    assert "Remove those that are in the wrong one" in words


def test_an_image_that_is_held_out_and_trained_on_is_said(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "sets" / "train")
    (tmp_path / "sets" / "val" / "dog").mkdir(parents=True)
    shutil.copy(folder / "dog" / "4.png", tmp_path / "sets" / "val" / "dog" / "x.png")
    words = said(tmp_path / "sets", capsys)
    assert "note: 1 image is held out and trained on too, byte for byte" in words
    assert "another class" not in words


def test_copies_within_a_class_that_are_trained_on_are_nobodys_harm(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "sets" / "train")
    shutil.copytree(folder, tmp_path / "sets" / "val")
    for path in (tmp_path / "sets" / "val").rglob("*.png"):
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    shutil.copy(folder / "cat" / "1.png", tmp_path / "sets" / "train" / "cat" / "again.png")
    assert "byte for byte" not in said(tmp_path / "sets", capsys)


def test_a_file_that_goes_before_its_size_is_asked_for(folder):
    dataset = load_dataset(folder)
    (folder / "cat" / "0.png").unlink()
    with pytest.raises(DataError, match=r"cannot read image .*0\.png': No such file"):
        sets.data_digest(dataset)
