"""The command line: help with an example, bad input as one line and exit 2, output for people and programs."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import portnet
from portnet.cli import main
from portnet.cli.app import COMMANDS


@pytest.fixture
def cli(monkeypatch, capfd):
    """Run ``portnet`` in this process; return (exit code, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["portnet", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        output = capfd.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "small.onnx"
    model = portnet.zoo.load("squeezenet1_1", weights=None, size=32)
    model.save(path)
    return path


@pytest.mark.parametrize("command", [command.__name__ for command in COMMANDS])
def test_help_has_an_example(cli, command):
    code, output, _ = cli(command, "--help")
    assert code == 0
    assert f"portnet {command}" in output.split("Example:")[1]


def _classes(folder: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.random.default_rng(i).integers(0, 255, (20, 20, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


BAD_DATA = {
    "no such folder": (lambda folder: folder / "nowhere", "nowhere"),
    "a file": (lambda folder: _file(folder / "photo.jpg"), "photo.jpg"),
    "an empty folder": (lambda folder: folder, "class"),
    "one class only": (lambda folder: _classes(folder, {"cat": 3}), "cat"),
    "an empty class": (lambda folder: _classes(folder, {"cat": 3, "dog": 0}), "dog"),
    "no readable image": (lambda folder: _broken(_classes(folder, {"a": 2, "b": 2})), ".png"),
}


def _file(path):
    path.write_bytes(b"x")
    return path


def _broken(folder):
    for path in folder.glob("*/*.png"):
        path.write_bytes(path.read_bytes()[:40])
    return folder


def assert_one_line(code, error, word):
    assert code == 2, error
    assert "Traceback" not in error
    assert word in error
    assert len(error.strip().splitlines()) == 1, error


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data_is_one_line(cli, tmp_path, kind):
    make, word = BAD_DATA[kind]
    (tmp_path / "data").mkdir()
    code, _, error = cli("finetune", make(tmp_path / "data"), "--size", 32, "--out", tmp_path / "run")
    assert_one_line(code, error, word)
    assert not (tmp_path / "run").exists()


BAD_OPTIONS = {
    "backbone": (["--backbone", "squeezenet1.1"], "squeezenet1_1"),
    "backend": (["--backend", "pytorch"], "torch"),
    "freeze layer": (["--freeze", "until:fire55"], "fire5"),
    "freeze kind": (["--freeze", "last:3"], "first:N"),
    "freeze all": (["--freeze", "match:.*"], "freezes every layer"),
    "head": (["--head", "dense"], "linear"),
    "optimizer": (["--optimizer", "adm"], "adam"),
    "epochs": (["--epochs", "0"], "epochs"),
    "learning rate": (["--lr", "-1"], "learning rate"),
    "size": (["--size", "3"], "size"),
    "weights file": (["--weights", "nowhere.pth"], "nowhere.pth"),
    "device": (["--device", "cuda:7"], "cuda:7"),
    "infinite learning rate": (["--lr", "inf"], "learning rate"),
    "seed": (["--seed", str(2**32)], "4,294,967,295"),
    "momentum": (["--optimizer", "sgd", "--momentum", "1"], "momentum"),
    "weight decay": (["--weight-decay", "nan"], "weight decay"),
    "head width": (["--head", "mlp:9999999999"], "65,536"),
    "lr_mult": (["--lr-mult", "haed=10"], "head"),
}


@pytest.mark.parametrize("kind", BAD_OPTIONS)
def test_bad_options_are_one_line(cli, digits, tmp_path, kind):
    options, word = BAD_OPTIONS[kind]
    defaults = [] if "--size" in options else ["--size", 48]
    code, _, error = cli("finetune", digits, *defaults, *options, "--out", tmp_path / "run")
    assert_one_line(code, error, word)
    assert not (tmp_path / "run").exists()


def test_weights_of_the_wrong_shape_name_the_first_mismatch(cli, digits, tmp_path):
    arrays = portnet.zoo.load("squeezenet1_1", weights=None).weights()
    arrays["features.3.squeeze.weight"] = np.zeros((1, 2, 3, 4), np.float32)
    np.savez(tmp_path / "w.npz", **arrays)
    code, _, error = cli("finetune", digits, "--weights", tmp_path / "w.npz", "--out", tmp_path / "run")
    assert_one_line(code, error, "features.3.squeeze.weight")
    assert "(1, 2, 3, 4)" in error


@pytest.mark.parametrize("content", ["truncated", "text", "empty"])
def test_a_file_that_is_no_onnx_is_one_line(cli, onnx_file, tmp_path, content):
    data = {"truncated": onnx_file.read_bytes()[:20_000], "text": b"hello, world", "empty": b""}[content]
    (tmp_path / "bad.onnx").write_bytes(data)
    for command in (["predict", tmp_path / "bad.onnx", "x.png"], ["check", tmp_path / "bad.onnx", onnx_file]):
        code, _, error = cli(*command)
        assert_one_line(code, error, "bad.onnx")


def test_an_output_that_cannot_be_written_is_one_line(cli, digits, tmp_path):
    (tmp_path / "file").touch()
    code, _, error = cli("finetune", digits, "--size", 48, "--epochs", 1, "--out", tmp_path / "file" / "run")
    assert_one_line(code, error, "cannot")
    code, _, error = cli("export", "squeezenet1_1", "--onnx", tmp_path / "file" / "x.onnx")
    assert_one_line(code, error, "x.onnx")


def test_a_demo_folder_that_cannot_be_made_is_one_line(cli, tmp_path):
    (tmp_path / "file").touch()
    assert_one_line(*cli("demo", "--out", tmp_path / "file")[::2], "--out")


def test_a_resumed_run_takes_no_other_settings(cli, tmp_path):
    code, _, error = cli("finetune", "--resume", tmp_path, "--epochs", 9, "--seed", 1)
    assert code == 2
    assert "--epochs, --seed" in " ".join(error.split())
    assert_one_line(*cli("finetune", "--resume", tmp_path, "--json")[::2], "holds no run")


def test_labels_that_are_not_the_models_are_one_line(cli, digits, onnx_file, tmp_path):
    code, _, error = cli("evaluate", onnx_file, digits)
    assert_one_line(code, error, "labels")
    model = portnet.Model.load(onnx_file)
    model.labels = [f"name {i}" for i in range(1000)]
    model.save(tmp_path / "labelled.onnx")
    code, _, error = cli("evaluate", tmp_path / "labelled.onnx", digits)
    assert_one_line(code, error, "'0'")
    assert str(digits) in error
    model.labels = [f"two\nlines {i}" for i in range(1000)]
    model.save(tmp_path / "lines.onnx")
    assert_one_line(*cli("evaluate", tmp_path / "lines.onnx", digits)[::2], r"'two\nlines 0'")


@pytest.mark.parametrize("command", ["evaluate", "ambiguity", "features", "recommend"])
def test_images_that_are_skipped_are_told(cli, digits, onnx_file, tmp_path, command):
    photos = tmp_path / "photos"
    shutil.copytree(digits, photos)
    (photos / "0" / "two\nlines.png").write_bytes(b"")
    model = portnet.Model.load(onnx_file)
    model.labels = ["0", "1", "7", *(f"name {i}" for i in range(997))]
    model.save(tmp_path / "labelled.onnx")
    words = {
        "features": (photos, "--model", tmp_path / "labelled.onnx", "-o", tmp_path / "f.npz"),
        "recommend": (photos, "--model", tmp_path / "labelled.onnx"),
    }.get(command, (tmp_path / "labelled.onnx", photos))
    code, _, error = cli(command, *words)
    assert_one_line(code, error, r"two\nlines.png': the file is empty")
    code, output, error = cli(command, *words, "--on-error", "skip")
    assert code == 0
    assert error.splitlines() == [f"skipped '{photos}/0/two\\nlines.png': the file is empty, expected an image."]
    if command == "recommend":
        assert f"{photos} --on-error skip --" in output
    _, output, error = cli(command, *words, "--on-error", "skip", "--json")
    assert error == ""
    assert [Path(path).name for path, _ in json.loads(output)["skipped"]] == ["two\nlines.png"]


def test_a_provider_that_does_not_load_is_an_error_and_never_a_fallback(cli, onnx_file, tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "x.png")
    from portnet.runtime.providers import loadable

    if "CUDAExecutionProvider" in loadable():
        pytest.skip("CUDA loads here")
    code, _, error = cli("predict", onnx_file, tmp_path / "x.png", "--provider", "cuda")
    assert_one_line(code, error, "cuda")
    code, _, error = cli("predict", onnx_file, tmp_path / "x.png", "--provider", "gpu")
    assert_one_line(code, error, "cuda")


@pytest.mark.parametrize("command", ["evaluate", "ambiguity"])
def test_a_provider_with_a_backend_is_refused_and_not_ignored(cli, onnx_file, digits, command):
    code, _, error = cli(command, onnx_file, digits, "--backend", "torch", "--provider", "cuda")
    assert_one_line(code, error, "provider")


def test_predict_names_the_cat(cli, tmp_path):
    from skimage import data

    Image.fromarray(data.chelsea()).save(tmp_path / "chelsea.png")
    code, output, _ = cli("predict", "mobilenet_v2", tmp_path / "chelsea.png", "--top", "3", "--json")
    answer = json.loads(output)
    assert code == 0
    assert answer["provider"] == "CPUExecutionProvider"
    assert "cat" in answer["predictions"][0]["top"][0]["label"]
    assert len(answer["predictions"][0]["top"]) == 3


def test_predict_can_leave_out_what_cannot_be_read(cli, onnx_file, tmp_path):
    Image.fromarray(np.full((20, 20, 3), 90, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    images = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "gone.png"]
    assert_one_line(*cli("predict", onnx_file, *images)[::2], "b.png")
    code, output, error = cli("predict", onnx_file, *images, "--on-error", "skip")
    assert code == 0
    assert "a.png" in output
    assert [line.split(":")[0] for line in error.splitlines()] == [f"skipped {image}" for image in images[1:]]
    code, output, _ = cli("predict", onnx_file, *images, "--on-error", "skip", "--json")
    answer = json.loads(output)
    assert [each["image"] for each in answer["predictions"]] == [str(images[0])]
    assert [path for path, _ in answer["skipped"]] == [str(image) for image in images[1:]]
    assert_one_line(*cli("predict", onnx_file, images[1], "--on-error", "skip")[::2], "no image that can be read")
    assert_one_line(*cli("predict", onnx_file, images[0], "--on-error", "guess")[::2], "'guess'")


def test_check_exits_1_when_networks_differ(cli, onnx_file, tmp_path):
    model = portnet.Model.load(onnx_file)
    name = "features.3.squeeze.bias"
    model.with_weights({name: model.weights()[name] + 1}).save(tmp_path / "moved.onnx")
    code, output, _ = cli("check", tmp_path / "moved.onnx", onnx_file)
    assert code == 1
    assert "FAILED" in output
    assert "features.3.squeeze" in output
    code, output, _ = cli("check", onnx_file, "torch", "--json")
    assert code == 0
    assert json.loads(output)["passed"] is True


@pytest.mark.parametrize("option", [("--atol", "nan"), ("--rtol", "-1"), ("--seed", "-1")])
def test_check_refuses_numbers_that_mean_nothing(cli, onnx_file, option):
    assert_one_line(*cli("check", onnx_file, onnx_file, *option)[::2], option[0].strip("-"))


def test_numbers_that_were_not_compared_are_no_numbers(cli, onnx_file, tmp_path):
    portnet.zoo.load("squeezenet1_1", weights=None, size=48).save(tmp_path / "other.onnx")
    code, output, _ = cli("check", tmp_path / "other.onnx", onnx_file, "--json")
    assert code == 1, output
    assert json.loads(output)["max_abs"] is None
    _, output, _ = cli("check", tmp_path / "other.onnx", onnx_file)
    assert "nan" not in output


def test_a_place_that_is_none_is_said_before_a_framework_is_imported(cli, onnx_file, tmp_path, monkeypatch):
    monkeypatch.setattr("portnet.conversion.engine", lambda name: pytest.fail("imported"))
    code, _, error = cli("convert", onnx_file, "--to", "keras", "-o", tmp_path / "nowhere" / "x.keras")
    assert_one_line(code, error, "folder that exists")


def test_inputs_that_are_not_there_are_named(cli, onnx_file, tmp_path):
    words = ("convert", onnx_file, "--to", "torch", "-o", tmp_path / "x.pt2", "--inputs", tmp_path / "no.npz")
    assert_one_line(*cli(*words)[::2], "inputs: no such file")


def test_a_demo_that_cannot_run_writes_nothing(cli, tmp_path):
    assert_one_line(*cli("demo", "--seed", "-1", "--out", tmp_path / "demo")[::2], "seed: got -1")
    assert not (tmp_path / "demo").exists()


def test_a_demo_that_is_interrupted_ends_there(cli, tmp_path, monkeypatch):
    """It was in training that Ctrl-C came, where it waits for the step: nothing is proved or shown after it."""
    from portnet.finetuning import api, loop

    pytest.importorskip("portnet_torch")
    monkeypatch.setattr(loop, "after_step", lambda *_: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr("portnet.cli.demo.SIZE", 32)
    code, output, error = cli("demo", "--backend", "torch", "--out", tmp_path / "demo")
    assert (code, error) == (130, "portnet: interrupted\n")
    assert f"next: portnet finetune --resume {tmp_path / 'demo' / 'run-torch'}" in output.replace("\n", " ")
    assert "proof" not in output
    monkeypatch.undo()
    assert 0 < len(api.Run.load(tmp_path / "demo" / "run-torch").history.losses) < 100


def test_check_offers_the_nearest_name_of_the_zoo(cli, onnx_file):
    assert_one_line(*cli("check", "squeezenet1.1", onnx_file)[::2], "'squeezenet1_1'")


def test_zoo_and_doctor_print_json(cli):
    code, output, _ = cli("zoo", "--json")
    assert {entry["name"] for entry in json.loads(output)} >= {"squeezenet1_1", "resnet18_v2"}
    code, output, _ = cli("doctor", "--json")
    found = json.loads(output)
    assert code == 0, found["problems"]
    assert found["providers"]["CPUExecutionProvider"] == "loads"
    assert set(found["engines"]) == {"torch", "keras", "gluon"}


def test_both_onnxruntimes_at_once_are_a_problem(monkeypatch):
    from portnet.cli import doctor

    monkeypatch.setattr(doctor, "_versions", lambda: {"onnxruntime": "1", "onnxruntime-gpu": "1"})
    assert any("overwrite each other" in problem for problem in doctor.diagnose()["problems"])


MISUSED = {
    "no such command": (["finetun"], "'finetune'?"),
    "a word for a number": (["finetune", "photos", "--epochs", "1.5"], "'--epochs'"),
    "an argument is missing": (["predict", "mobilenet_v2"], "IMAGE"),
    "no such option": (["zoo", "--all"], "--all"),
    "a limit that is no number": (["finetune", "photos", "--cache-limit", "nan"], "--cache-limit"),
    "an unlimited limit": (["finetune", "photos", "--cache-limit", "inf"], "--cache-limit"),
    "no pooling": (["features", "photos", "-o", "f.npz", "--pooled", "max"], "avg, flatten, none"),
    "no data": (["finetune"], "DATA"),
    "a run that is a file": (["finetune", "--resume", __file__], "holds no run"),
    "no name of a folder": (["finetune", ""], "no such folder: got ''"),
}


@pytest.mark.parametrize("kind", MISUSED)
def test_misuse_is_one_line(cli, digits, kind):
    words, expected = MISUSED[kind]
    code, output, error = cli(*(digits if word == "photos" else word for word in words))
    assert_one_line(code, error, expected)
    assert error.startswith("portnet")
    assert not output


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are Unix's")
def test_a_pipe_is_refused_and_not_waited_for(cli, onnx_file, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert_one_line(*cli("predict", onnx_file, tmp_path / "pipe.png")[::2], "pipe or device")
    os.mkfifo(tmp_path / "pipe.onnx")
    assert_one_line(*cli("predict", tmp_path / "pipe.onnx", tmp_path / "pipe.png")[::2], "pipe.onnx")


def test_classes_of_one_image_hold_none_out(cli, tmp_path):
    data = _classes(tmp_path / "data", {"a": 1, "b": 1})
    for option in (["--val", "0.5"], ["--test", "0.5", "--val", "0"]):
        code, _, error = cli("finetune", data, "--size", 32, *option, "--out", tmp_path / "run")
        assert_one_line(code, error, "holds none out")
        assert not (tmp_path / "run").exists()


def test_a_run_does_not_settle_among_other_files(cli, digits):
    assert_one_line(*cli("finetune", digits, "--size", 32, "--out", digits)[::2], "something else")
    assert not (digits / "run.json").exists()
