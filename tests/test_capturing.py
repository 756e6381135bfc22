"""A capture is believed when it computes what the original does: a framework of one network, honest or lying."""

import sys
from typing import ClassVar

import numpy as np
import pytest

import portnet
from portnet import originals
from portnet.adapter import Adapter, CaptureOptions
from portnet.capturing import capture_original
from portnet.cli import main
from portnet.errors import InputError, MissingDependencyError, ParityError, UnsupportedError
from portnet.formats.captured import Captured, Missing, Source
from portnet.formats.writer import GraphWriter
from portnet.graph.cut import cut
from portnet.originals import Request, is_original, open_original
from portnet.parity.inputs import FREE_AXIS
from portnet.parity.source import compare_with_source
from portnet.runtime.session import Session


def two_layers(scale: float = 1.0):
    """Conv called ``conv``, its kernel multiplied by ``scale``, Relu, mean, dense layer."""
    rng = np.random.default_rng(0)
    writer = GraphWriter("original")
    x = writer.input("image", ("N", 3, 8, 8))
    kernel = rng.standard_normal((4, 3, 3, 3)).astype(np.float32)
    y = writer.node("Conv", [x, writer.weight("conv.weight", kernel * np.float32(scale))], "conv")
    y = writer.node("Flatten", [writer.node("GlobalAveragePool", [writer.node("Relu", [y], "relu")], "pool")], "flat")
    dense = writer.weight("dense.weight", rng.standard_normal((5, 4)).astype(np.float32))
    return writer.finish([writer.node("Gemm", [y, dense], "dense", transB=1)], ["logits"])


class Native:
    """A network of the framework: what it really is, and what its adapter says it is."""

    def __init__(self, truth, told=None, places=("conv", "relu", "pool", "flat", "logits")):
        self.truth, self.told, self.places = truth, told or truth, places


class NativeSource(Source):
    label = "the framework"

    def __init__(self, native, model):
        self.native, self.session = native, Session(model)

    def run(self, inputs):
        return self.session.run(inputs)

    def at(self, tensor):
        if tensor not in self.native.places:
            return super().at(tensor)
        return NativeSource(self.native, cut(self.native.truth, outputs=[tensor]))


class Framework(Adapter):
    name = framework = "toy"
    ops = frozenset()
    sources: ClassVar = {"toy:": "a network of the toy framework"}
    networks: ClassVar = {}

    def version(self):
        return "1"

    def devices(self):
        return ["cpu"]

    def lower_canonical(self, model, device):
        raise UnsupportedError("toy: it lowers nothing")

    def owns(self, native):
        return isinstance(native, Native)

    def open(self, source, weights=None):
        return self.networks[source.removeprefix("toy:")]

    def capture(self, native, options):
        self.options = options
        return Captured(native.told, "copied", ("it was easy",)), NativeSource(native, native.truth)


@pytest.fixture
def framework(monkeypatch):
    adapter = Framework()
    monkeypatch.setattr(originals, "adapters", lambda: (adapter,))
    monkeypatch.setattr(originals, "engine", lambda name: adapter)
    monkeypatch.setattr(
        Framework, "networks", {"honest": Native(two_layers()), "liar": Native(two_layers(), two_layers(1.1))}
    )
    return adapter


def test_an_object_is_captured_and_proved(framework):
    found = capture_original(Native(two_layers()))
    assert found.report.passed
    assert [c.batch for c in found.report.comparisons] == ["random, batch 1", "random, batch 3"]
    assert found.model.parameter_count == 4 * 3 * 3 * 3 + 5 * 4
    assert "it was easy" in str(found)


def test_capture_passes_what_the_caller_wants(framework):
    model = portnet.capture(Native(two_layers()), np.zeros((1, 3, 8, 8)), dynamic_batch=False, keep_layout=True)
    assert model.name == "original"
    assert framework.options.examples[0].shape == (1, 3, 8, 8)
    assert (framework.options.dynamic_batch, framework.options.keep_layout) == (False, True)


def test_a_capture_that_differs_is_refused_with_its_first_layer(framework):
    with pytest.raises(ParityError, match=r"first layer that differs: conv \(Conv\)"):
        portnet.capture(Native(two_layers(), two_layers(1.1)))


def test_places_that_the_framework_cannot_be_cut_at_are_passed_over(framework):
    with pytest.raises(ParityError, match=r"first layer that differs: flat \(Flatten\)"):
        portnet.capture(Native(two_layers(), two_layers(1.1), places=("flat", "logits")))


def test_the_form_for_deployment_is_what_is_compared(framework):
    assert capture_original("toy:honest", deploy=True).report.passed


def test_a_shape_makes_an_example(framework):
    open_original("toy:honest", Request(input_shape=(2, 3, 8, 8)))
    assert framework.options.examples[0].shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("thing", "meant"),
    [("toy:honest", True), ("net.prototxt", True), ("x-symbol.json", True), ("a.module:factory", True)]
    + [("net.onnx", False), ("squeezenet1_1", False), ("runs/pets", False), (3, False), (Native(None), True)],
)
def test_what_is_an_original(framework, thing, meant):
    assert is_original(thing) is meant


def test_what_is_no_network_is_told_what_could_be(framework):
    with pytest.raises(InputError, match=r"got a builtins.dict, expected a network of toy"):
        open_original({})
    with pytest.raises(InputError, match=r"no such file: net\.cfg"):
        open_original("net.cfg")
    with pytest.raises(InputError, match=r"toy:: a network of the toy framework"):
        open_original("nothing at all")
    with pytest.raises(InputError, match=r"weights: got x\.npz for toy:honest"):
        open_original("toy:honest", Request.of(weights="x.npz"))


def test_a_collection_whose_engine_is_missing_says_what_to_install(framework, monkeypatch):
    monkeypatch.setattr(originals, "installed", lambda: [])
    monkeypatch.setattr(originals, "engine", _missing)
    with pytest.raises(MissingDependencyError, match="gluon is missing"):
        open_original("gluon:resnet18_v1")


def _missing(name):
    raise MissingDependencyError(f"{name} is missing")


@pytest.mark.parametrize("text", ["", "1,3,x", "1,-3", "0,3"])
def test_a_shape_that_is_none(text):
    with pytest.raises(InputError, match="expected sizes such as 1,3,224,224"):
        Request.of(input_shape=text)


def test_a_factory_is_imported_from_the_current_folder(framework, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_toy_networks.py").write_text(
        "from portnet.originals import adapters\n"
        "def make(): return adapters()[0].networks['honest']\n"
        "def fail(): raise ZeroDivisionError('by\\nzero')\n"
    )
    path = list(sys.path)
    assert capture_original("my_toy_networks:make").report.passed
    with pytest.raises(InputError, match="my_toy_networks:fail raised ZeroDivisionError: by zero"):
        open_original("my_toy_networks:fail")
    with pytest.raises(InputError, match=r"unknown name 'mke'\. Did you mean 'make'"):
        open_original("my_toy_networks:mke")
    with pytest.raises(InputError, match="No module named 'not_there_at_all'"):
        open_original("not_there_at_all:make")
    assert sys.path == path


def test_the_command_writes_what_is_proved_and_nothing_else(framework, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["portnet", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            return stop.code or 0
        return 0

    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    assert run("export", "toy:honest", "--onnx", good, "--deploy") == 0
    assert "the framework: agree" in capsys.readouterr().out
    assert portnet.Model.load(good).parameter_count == 128
    assert run("export", "toy:liar", "--onnx", bad) == 1
    assert "first layer that differs: conv" in capsys.readouterr().err
    assert not bad.exists()


def test_all_that_is_missing_is_said_at_once():
    missing = Missing("net.prototxt")
    missing.raise_if_any()
    missing.add("Frobnicate", "a")
    missing.add("Frobnicate", "b")
    missing.add("Pooling with STOCHASTIC", "pool1")
    with pytest.raises(
        UnsupportedError, match=r"got 3 layers .*: Frobnicate \(a, b\); Pooling with STOCHASTIC \(pool1\)"
    ):
        missing.raise_if_any()


def test_default_options():
    assert Request().options == CaptureOptions(None, True, False)


def classifier(wrong=1.0, *, strength=1.0, softmax=True, classes=1000):
    """Conv, Relu, mean and a thousand classes; ``wrong`` multiplies the kernel of one filter."""
    rng = np.random.default_rng(0)
    writer = GraphWriter("classifier")
    x = writer.input("image", ("N", 3, 16, 16))
    kernel = rng.standard_normal((32, 3, 3, 3)).astype(np.float32)
    kernel[5] *= np.float32(wrong)
    y = writer.node("Relu", [writer.node("Conv", [x, writer.weight("conv.weight", kernel)], "conv")], "relu")
    y = writer.node("Flatten", [writer.node("GlobalAveragePool", [y], "pool")], "flat")
    dense = rng.standard_normal((32, classes)).astype(np.float32) * np.float32(strength)
    y = writer.node("Gemm", [y, writer.weight("dense.weight", dense)], "dense")
    return writer.finish([writer.node("Softmax", [y], "softmax", axis=-1) if softmax else y], ["classes"])


# logits that differ by thousandths, as those of an untrained network do, and logits that make one class certain
@pytest.mark.parametrize("strength", [1e-3, 0.1, 1.0])
def test_a_wrong_kernel_is_seen_behind_a_softmax(framework, strength):
    right = classifier(strength=strength)
    assert capture_original(Native(right)).report.passed
    with pytest.raises(ParityError, match="differ"):
        capture_original(Native(right, classifier(1.1, strength=strength)))


def test_logarithms_show_what_a_certain_class_hides(framework):
    right, wrong = classifier(strength=8.0, classes=3), classifier(1.1, strength=8.0, classes=3)
    report = compare_with_source(wrong, NativeSource(Native(right), right), find_layer=False)
    found = {c.output: bool(c.problem) for c in report.comparisons}
    assert found["log classes"]
    assert portnet.check(wrong, right).passed  # by absolute numbers alone


def test_rounding_of_large_outputs_is_no_difference(framework):
    right = classifier(strength=100.0, softmax=False)
    rounded = right.with_weights({"dense.weight": right.weights()["dense.weight"] * np.float32(1 + 2e-5)})
    assert portnet.check(rounded, right).max_abs > 2e-4
    assert capture_original(Native(right, rounded)).report.passed


def test_outputs_that_are_the_same_whatever_goes_in_prove_nothing_so_the_inside_is_compared(framework):
    right, wrong = classifier(strength=1e-9), classifier(1.1, strength=1e-9)
    places = ("conv", "relu", "pool", "flat", "dense", "classes")
    found = capture_original(Native(right, places=places)).report
    assert found.comparisons[-1].output == "dense"
    assert found.comparisons[-1].batch == "inside, as outputs are flat"
    with pytest.raises(ParityError, match="dense"):
        capture_original(Native(right, wrong, places=places))
    assert capture_original(Native(right, places=("conv",))).report.comparisons[-1].output == "conv"


class Rounded(NativeSource):
    """Is off by so many steps of a quantized output, at the usual length and at others."""

    def __init__(self, model, usual, others):
        super().__init__(Native(model), model)
        self.steps = usual, others

    def run(self, inputs):
        steps = self.steps[inputs["x"].shape[-1] != FREE_AXIS]
        return {name: array + np.float32(0.5 * steps) for name, array in super().run(inputs).items()}


@pytest.mark.parametrize("usual", [0, 1])
@pytest.mark.parametrize("others", [0, 2, 5])
def test_a_step_off_is_no_difference_at_any_size(usual, others):
    writer = GraphWriter("rounded")
    scale, x = writer.constant(np.float32(0.5), "scale"), writer.input("x", ("N", 1, "T"))
    y = writer.node("DequantizeLinear", [writer.node("QuantizeLinear", [x, scale], "whole"), scale], "steps")
    model = writer.finish([y], ["y"])
    report = compare_with_source(model, Rounded(model, usual, others))
    assert report.passed == (others < 5)
    assert len(report.comparisons) == 3
    assert any("sizes are free in name alone" in problem for problem in report.problems) == (others == 5)
