"""What a run trains on, is validated on and is tested on; classes renamed, drawn more often, weighed more."""

import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

import portnet
from portnet.cli.app import app
from portnet.data import Loader, load_dataset
from portnet.data.balance import balanced_weights, oversampled
from portnet.errors import DataError, InputError, UnknownNameError
from portnet.finetuning.api import resume
from portnet.finetuning.recipe import recipe
from portnet.finetuning.run import Run
from portnet.finetuning.sets import prepare_data
from portnet.finetuning.settings import Settings
from portnet.graph.metadata import Preprocessing

SMALL = {"backbone": "squeezenet1_1", "size": 48, "batch_size": 16, "seed": 1, "progress": False, "epochs": 1}


def folder_of(root, counts):
    """Class folders; the first byte of each image is its number, unique in the tree."""
    number = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            number += 1
            Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(root / name / f"{i:03}.png")
    return root


def sets_of(data, **changes):
    return prepare_data(data, Settings("squeezenet1_1", **changes))


def test_document_2_trains_on_64_percent(tmp_path):
    """80/20 train and test by class, then 20% of train for validation."""
    sets = sets_of(folder_of(tmp_path, {"a": 50, "b": 100}), test=0.2, val=0.2)
    assert sets.train.counts() == {"a": 32, "b": 64}
    assert sets.val.counts() == {"a": 8, "b": 16}
    assert sets.test.counts() == {"a": 10, "b": 20}
    items = [set(part.items) for part in (sets.train, sets.val, sets.test)]
    assert len(set.union(*items)) == sum(map(len, items)) == 150


def test_document_4_trains_on_70_percent(tmp_path):
    sets = sets_of(folder_of(tmp_path, {"a": 10, "b": 20}), test=0.3, val=0)
    assert (sets.train.counts(), sets.val, sets.test.counts()) == ({"a": 7, "b": 14}, None, {"a": 3, "b": 6})


def test_test_images_do_not_depend_on_the_validation_share(tmp_path):
    data = folder_of(tmp_path, {"a": 20, "b": 20})
    drawn = [sets_of(data, test=0.2, val=val, seed=seed).test.items for val, seed in ((0, 3), (0.5, 3), (0, 4))]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Train", "validation", "TEST")])
def test_explicit_sets_are_folders_or_a_mapping(tmp_path, names):
    for name, counts in zip(names, ({"a": 4, "b": 5}, {"b": 2}, {"a": 3}), strict=True):
        folder_of(tmp_path / name, counts)
    for data in (tmp_path, {name: tmp_path / name for name in names}):
        sets = sets_of(data)
        assert sets.train.counts() == {"a": 4, "b": 5}
        assert sets.val.counts() == {"a": 0, "b": 2}
        assert sets.test.counts() == {"a": 3, "b": 0}


def test_an_explicit_test_set_is_not_split_again(tmp_path):
    for name in ("train", "test"):
        folder_of(tmp_path / name, {"a": 4, "b": 5})
    assert sets_of(tmp_path, val=0.25).val.counts() == {"a": 1, "b": 1}
    with pytest.raises(InputError, match=r"test: got 0\.2, but the data brings its own"):
        sets_of(tmp_path, test=0.2)


@pytest.mark.parametrize("data", [{"val": 1}, {"train": 1, "other": 2}, {"train": 1, "val": 2, "valid": 3}])
def test_a_mapping_of_something_else_is_refused(data):
    with pytest.raises(InputError, match="expected 'train' and perhaps 'val' and 'test'"):
        sets_of(data)


# ---- renaming


def test_classes_are_renamed_and_sorted_by_their_new_names(tmp_path):
    data = folder_of(tmp_path, {"n01514668": 2, "n02129604": 3, "n02325366": 4})
    names = {"n01514668": "zebra", "n02325366": "chicken"}
    dataset = load_dataset(data, rename=names)
    assert dataset.counts() == {"chicken": 4, "n02129604": 3, "zebra": 2}
    for item, label in zip(dataset.items, dataset.labels, strict=True):
        folder = item.split("/")[-2]
        assert dataset.classes[label] == names.get(folder, folder)


def test_several_classes_may_become_one(tmp_path):
    data = folder_of(tmp_path, {"tabby": 2, "siamese": 3, "dog": 4})
    assert load_dataset(data, rename={"tabby": "cat", "siamese": "cat"}).counts() == {"cat": 5, "dog": 4}
    assert load_dataset(data, rename={"tabby": "dog", "dog": "tabby"}).counts() == {"dog": 2, "siamese": 3, "tabby": 4}
    with pytest.raises(DataError, match="class 'tabby' would be called 'dog', as another class is"):
        load_dataset(data, rename={"tabby": "dog"})
    with pytest.raises(UnknownNameError, match=r"unknown class to rename 'tabbi'\. Did you mean 'tabby'"):
        load_dataset(data, rename={"tabbi": "cat"})
    with pytest.raises(DataError, match="one class only"):
        load_dataset(data, rename={"tabby": "cat", "siamese": "cat", "dog": "cat"})


def test_renaming_fits_the_networks_classes(tmp_path):
    data = folder_of(tmp_path, {"n1": 2, "n2": 3})
    later = partial(load_dataset, data, classes=("cat", "n2", "owl"))
    assert later(rename={"n1": "cat", "n9": "owl"}).counts() == {"cat": 2, "n2": 3, "owl": 0}
    with pytest.raises(UnknownNameError, match="'n1'"):
        later()


def test_numbers_are_renamed_too():
    pixels = np.zeros((4, 2, 2, 3), np.uint8)
    dataset = load_dataset((pixels, np.array([0, 1, 2, 1])), rename={"0": "zero", "2": "a"})
    assert dataset.classes == ("zero", "1", "a")
    assert dataset.labels.tolist() == [0, 1, 2, 1]
    assert load_dataset((pixels, ["x", "y", "x", "y"]), rename={"x": "z"}).counts() == {"y": 2, "z": 2}


# ---- imbalance

LABELS = np.array([0] * 3 + [1] * 8 + [2] * 20)


def test_oversampling_draws_every_class_as_often():
    seen = []
    for epoch in range(30):
        drawn = oversampled(LABELS, 5, epoch)
        assert np.bincount(LABELS[drawn]).tolist() == [20, 20, 20]
        times = np.bincount(drawn, minlength=31)
        assert set(times[:3]) <= {6, 7}
        assert set(times[3:11]) <= {2, 3}
        assert (times[11:] == 1).all()
        seen.append(times)
    assert np.array_equal(oversampled(LABELS, 5, 3), oversampled(LABELS, 5, 3))
    # what is left to twenty falls on every image in turn
    assert np.array(seen)[:, :3].mean(axis=0) == pytest.approx([20 / 3] * 3, abs=0.3)


def test_an_oversampled_epoch_is_shuffled_and_entered_anywhere():
    pixels = np.repeat(np.arange(31, dtype=np.uint8)[:, None, None, None], 3, axis=3)
    plain = Preprocessing(size=(1, 1), resize=None, scale=1, mean=(0, 0, 0), std=(1, 1, 1))
    make = partial(Loader, load_dataset((pixels, LABELS)), plain, 8, shuffle=True, seed=2, oversample=True)
    batches = list(make().epoch(4))
    assert len(batches) == len(make()) == 8
    x, y = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert np.array_equal(LABELS[x[:, 0, 0, 0].astype(int)], y)
    assert np.bincount(y).tolist() == [20, 20, 20]
    assert (np.diff(y) != 0).mean() > 0.5
    for (a, b), (c, d) in zip(make(workers=1).epoch(4, 5), batches[5:], strict=True):
        assert np.array_equal(a, c)
        assert np.array_equal(b, d)


def test_copies_of_an_image_are_augmented_each_in_its_own_way():
    pixels = np.random.default_rng(0).integers(0, 256, (21, 12, 12, 3)).astype(np.uint8)
    plain = Preprocessing(size=(12, 12), resize=None, scale=1, mean=(0, 0, 0), std=(1, 1, 1))
    dataset = load_dataset((pixels, np.array([0] + [1] * 20)))
    augment = portnet.data.Augment(translate=3)
    loader = Loader(dataset, plain, 64, shuffle=True, seed=2, oversample=True, augment=augment)
    (x, y), *_ = loader.epoch(0)
    copies = x[y == 0]
    assert len(copies) == 20
    assert len({copy.tobytes() for copy in copies}) == 20


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    assert balanced_weights({"a": 3, "b": 8, "c": 20}) == pytest.approx(expected)


def test_settings_refuse_what_means_nothing():
    make = partial(Settings, "squeezenet1_1")
    with pytest.raises(InputError, match="unknown balance 'undersample'"):
        make(balance="undersample")
    with pytest.raises(InputError, match="Choose one"):
        make(balance="oversample", class_weights="balanced")
    with pytest.raises(InputError, match="expected 'balanced' or a number for each class"):
        make(class_weights="even").check_classes(("a", "b"))
    with pytest.raises(InputError, match="test: got 1"):
        make(test=1)


# ---- whole runs


@pytest.fixture
def uneven(digits, tmp_path):
    """Real digits under other names, one class a third of the others."""
    for digit, name, count in (("0", "n0", 20), ("1", "n1", 20), ("7", "n7", 7)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for path in sorted((digits / digit).iterdir())[:count]:
            (tmp_path / "data" / name / path.name).write_bytes(path.read_bytes())
    return tmp_path / "data"


def test_a_run_ends_with_the_test_it_was_promised(uneven, tmp_path):
    options = {**SMALL, "test": 0.2, "val": 0.2, "rename": {"n7": "seven", "n0": "zero"}, "balance": "oversample"}
    run = portnet.finetune(uneven, backend="torch", freeze="until:fire5", out=tmp_path / "run", **options)
    assert run.record["data"]["test"] == {"n1": 4, "seven": 1, "zero": 4}
    assert run.record["data"]["train"] == {"n1": 13, "seven": 5, "zero": 13}
    assert len(run.history.losses) == 3  # 39 images, 16 a step
    sets = prepare_data(uneven, run.settings)
    result = run.evaluate(sets.test)
    assert run.test == json.loads(json.dumps(result.to_dict()))
    again = Run.load(tmp_path / "run")
    assert again.test == run.test
    assert again.settings == run.settings
    assert again.evaluate(uneven).count == 47  # the folder's own names are renamed
    assert again.curves().steps_per_epoch == 3
    page = again.report(tmp_path / "report.html").read_text()
    assert f"{result.accuracy:.2%}" in page
    assert "decoded by" in page
    assert not (tmp_path / "run" / "checkpoint.npz").exists()


def test_a_test_that_fails_leaves_a_run_to_resume(uneven, tmp_path, monkeypatch):
    real = Run.evaluate
    monkeypatch.setattr(Run, "evaluate", lambda *_, **__: (_ for _ in ()).throw(DataError("cannot read image")))
    start = partial(portnet.finetune, uneven, backend="torch", freeze="backbone", test=0.2, **SMALL)
    with pytest.raises(DataError) as failed:
        start(out=tmp_path / "run")
    assert failed.value.run.test is None
    monkeypatch.setattr(Run, "evaluate", real)
    resumed = resume(tmp_path / "run", progress=False)
    whole = start()
    assert resumed.test == whole.test
    assert resumed.model.digest() == whole.model.digest()


def test_balanced_weights_are_the_losss(uneven):
    weighted = portnet.finetune(uneven, backend="torch", freeze="backbone", class_weights="balanced", val=0, **SMALL)
    expected = balanced_weights({"n0": 20, "n1": 20, "n7": 7})
    assert weighted.record["data"]["class_weights"] == pytest.approx(expected)
    by_hand = portnet.finetune(uneven, backend="torch", freeze="backbone", class_weights=expected, val=0, **SMALL)
    plain = portnet.finetune(uneven, backend="torch", freeze="backbone", val=0, **SMALL)
    assert weighted.history.losses == by_hand.history.losses != plain.history.losses


def test_the_command_line_takes_it_all(uneven, tmp_path, capsys):
    options = ["--size", "48", "--epochs", "1", "--freeze", "backbone", "--out", str(tmp_path / "run")]
    options += ["--val", "0.3", "--test", "0.2", "--rename", "n0=zero", "--rename", "n1=one"]
    app(["finetune", str(uneven), *options, "--class-weights", "balanced"], standalone_mode=False)
    output = capsys.readouterr().out
    assert "3 classes, 26 images to train on (4–11 images a class), 12 for validation, 9 for the test" in output
    assert "test: accuracy" in output
    run = Run.load(tmp_path / "run")
    assert run.model.labels == ("n7", "one", "zero")
    run.export(tmp_path / "digits.onnx")
    for network in (tmp_path / "run", tmp_path / "digits.onnx"):  # the folders keep their own names
        app(["evaluate", str(network), str(uneven)], standalone_mode=False)
        assert "on 47 images" in capsys.readouterr().out
    assert run.settings.class_weights == "balanced"


def test_a_run_from_three_folders_finds_them_again(digits, uneven, tmp_path, monkeypatch):
    folders = ["--val-data", str(uneven), "--test-data", str(uneven)]
    start = ["finetune", str(digits), *folders, "--size", "48", "--epochs", "1", "--freeze", "backbone"]
    with pytest.raises(UnknownNameError, match="unknown class 'n0'"):
        app([*start, "--out", str(tmp_path / "no")], standalone_mode=False)
    mended = tmp_path / "mended"
    uneven.rename(mended)
    for name in ("n0", "n1", "n7"):
        (mended / name).rename(mended / name[1:])
    start = [str(mended) if argument == str(uneven) else argument for argument in start]
    real = Run.evaluate
    monkeypatch.setattr(Run, "evaluate", lambda *_, **__: (_ for _ in ()).throw(DataError("cannot read image")))
    with pytest.raises(DataError):
        app([*start, "--out", str(tmp_path / "run")], standalone_mode=False)
    monkeypatch.setattr(Run, "evaluate", real)
    app(["finetune", "--resume", str(tmp_path / "run")], standalone_mode=False)
    run = Run.load(tmp_path / "run")
    assert run.record["data"]["source"] == {"train": str(digits), "val": str(mended), "test": str(mended)}
    assert (sum(run.record["data"]["train"].values()), run.test["count"]) == (60, 47)
    assert f"'test': '{mended}'" in recipe(run.settings, run.record["data"]["source"])
    assert str(mended) in run.report(tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("option", "word"),
    [(["--rename", "n0"], "expected each name once"), (["--class-weights", "1,x"], "'balanced' or a number")],
)
def test_the_command_line_refuses(uneven, option, word):
    with pytest.raises(Exception, match=word):
        app(["finetune", str(uneven), *option], standalone_mode=False)
