"""Every example runs, on every engine, on a few real images, and does what it says."""

import importlib.util
from pathlib import Path

import pytest

from portnet.data import samples
from portnet.engines import installed

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Call an example's ``main`` in an empty folder, with at most 12 images a class; return what it prints."""
    monkeypatch.chdir(tmp_path)
    write = samples.write_digits

    def few(folder, *classes, count=12):
        return write(folder, *classes, count=min(count, 12))

    monkeypatch.setattr(samples, "write_digits", few)

    def call(name, **arguments):
        spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.main(**arguments)
        return capsys.readouterr().out

    return call


@pytest.fixture(params=installed())
def backend(request):
    return request.param


def test_the_last_layer_alone_and_what_is_ambiguous(run, backend):
    output = run("squeezenet_head_only", data="", backend=backend, epochs=1, lr=1e-3, size=48)
    assert "724,035 learnables, 1,539 of them trained; input 48×48×3" in output
    table = output[output.index("image  ambiguity  likeliest  second  true class") :].splitlines()
    assert len([line for line in table if "digits-389" in line]) == 10
    assert "<svg" in Path("squeezenet_head_only.svg").read_text()


def test_two_dense_layers_on_a_frozen_resnet(run, backend):
    output = run("resnet50_mlp_head", data="", backend=backend, epochs=1, size=48)
    assert "80 images to train on (8 images a class), 20 for validation, 20 for the test" in output
    assert "test accuracy" in output


@pytest.mark.parametrize("where", ["", *installed()])
def test_features_into_a_support_vector_machine(run, where):
    output = run("features_svm", data="", backend=where, count=8)
    assert f"in {where or 'onnxruntime'}: 40 images seen, 40 unseen" in output
    # two thirds of ten classes after four images of each
    assert float(output.partition("accuracy ")[2].partition("%")[0]) > 60


def test_sixteen_layers_frozen(run, backend):
    output = run("squeezenet_freeze_first_16", data="", backend=backend, epochs=1, size=48)
    assert "whole: validation accuracy" in output
    assert "4 augmented views of each training image are kept" in output
    assert "layers 1–16 frozen: validation accuracy" in output
    assert Path("squeezenet_freeze_first_16.svg").exists()


def test_a_head_at_ten_times_the_rate(run, backend):
    output = run("gluon_resnet18_v2_lr_mult", data="", backend=backend, epochs=1, size=48)
    assert "learning-rate factors: ('features.0', '1'), ..., ('head.dense', '10')" in output
    assert "after 1 epochs" in output


def test_the_same_run_on_all_engines(run):
    output = run("same_run_three_engines", data="", drawing="curves.svg", epochs=1, size=48)
    assert float(output.partition("between engines ")[2]) < 1e-3
    assert Path("curves.svg").read_text().count(">") > 20


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_shown(path):
    assert len(path.read_text().splitlines()) <= 40
    assert f"examples/{path.name}" in (ROOT / "docs" / "examples.md").read_text()
