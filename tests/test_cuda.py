"""What runs on CUDA gives the CPU's numbers, the same each time. Without a device of that kind, nothing here runs."""

import os
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from small_runs import small_backbone, small_images, small_settings

import portnet
from portnet import zoo
from portnet.adapter import OptimizerSpec
from portnet.finetuning.api import resume
from portnet.finetuning.prefix.where import place
from portnet.finetuning.settings import Settings
from portnet.parity.inputs import random_inputs
from portnet.runtime import providers
from portnet.runtime.providers import loadable, preferred_here
from portnet.runtime.session import Session
from portnet.testing.conformance.base import batch, plan_for
from portnet.testing.networks import convnet
from portnet.testing.suite import run_case, select

torch = pytest.importorskip("torch")
pytest.importorskip("portnet_torch")

DEVICE = os.environ.get("PORTNET_TEST_DEVICE", "cuda:0")
NETWORKS = ["squeezenet1_1", "resnet18", "resnet50", "mobilenet_v2", "darknet19"]
IMAGES = small_images()

on_cuda = pytest.mark.skipif(
    DEVICE.startswith("cuda") and not torch.cuda.is_available(), reason="torch sees no CUDA device here"
)


@pytest.fixture(scope="module")
def engine():
    from portnet_torch import Engine

    return Engine()


@pytest.fixture
def _rounding():
    """TF32 switched on for the process, as a script before us may have done."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def relative(got, expected):
    return max(np.abs(got[name] - expected[name]).max() / np.abs(expected[name]).max() for name in expected)


@on_cuda
@pytest.mark.usefixtures("_rounding")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_the_cpus_numbers(engine, name):
    model = zoo.load(name, weights=None)
    inputs = random_inputs(model, 4)
    expected = Session(model, provider="cpu").run(inputs)
    assert relative(engine.lower(model, device=DEVICE).run(inputs), expected) < 1e-4
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.skipif("CUDAExecutionProvider" not in loadable(), reason="onnxruntime has no CUDA here that loads")
@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_gives_the_cpus_numbers(name):
    model = zoo.load(name, weights=None)
    inputs = random_inputs(model, 4)
    session = Session(model, provider="cuda")
    assert session.provider == "CUDAExecutionProvider" == Session(model).provider
    assert relative(session.run(inputs), Session(model, provider="cpu").run(inputs)) < 1e-4


@on_cuda
def test_a_check_runs_on_the_device():
    model = zoo.load("squeezenet1_1", weights=None)
    report = portnet.check(f"torch@{DEVICE}", model)
    assert report.passed
    assert report.a == f"torch on {DEVICE}"


@on_cuda
@pytest.mark.parametrize("kind", ["node", "simple"])
def test_the_standards_cases(engine, kind):
    """Every case of the suite that passes on the CPU; those of one op in twenty here."""
    from portnet_torch.onnx_backend import TorchBackend

    class OnDevice(TorchBackend):
        @classmethod
        def prepare(cls, model, device=DEVICE, **options):
            return super().prepare(model, device, **options)

    for case in select(kind=kind)[:: 20 if kind == "node" else 1]:
        here, there = run_case(case, TorchBackend), run_case(case, OnDevice)
        assert (here.status, "") == (there.status, "" if here.status == there.status else there.reason), case.name


@on_cuda
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_training_follows_the_cpus_and_repeats_itself(engine, rule):
    model = convnet()
    plan = plan_for(model, OptimizerSpec(rule, lr=1e-2), clip_norm=1.0)

    def losses(device):
        lowered = engine.lower(model, device=device)
        trainer = lowered.trainer(plan)
        return [trainer.step(*batch(model, 8, seed)).loss for seed in range(6)], lowered.weights()

    (first, weights), (second, again) = losses(DEVICE), losses(DEVICE)
    assert first == second
    assert all(np.array_equal(weights[name], again[name]) for name in weights)
    np.testing.assert_allclose(first, losses("cpu")[0], rtol=1e-4)


@on_cuda
@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def test_less_precision_is_near(engine, precision):
    model = convnet()
    losses = {}
    for kind in ("fp32", precision):
        trainer = engine.lower(model, device=DEVICE).trainer(
            plan_for(model, OptimizerSpec("adam", lr=1e-2), precision=kind, clip_norm=1.0)
        )
        losses[kind] = [trainer.step(*batch(model, 8, seed)).loss for seed in range(4)]
    assert losses[precision] != losses["fp32"]
    np.testing.assert_allclose(losses[precision], losses["fp32"], rtol=0.05)


@on_cuda
@pytest.mark.parametrize("options", [{}, {"freeze": "until:group"}, {"precision": "fp16", "optimizer": "adam"}])
def test_a_run_that_is_killed_goes_on_bit_identical(tmp_path, options):
    whole = portnet.finetune(
        IMAGES, out=tmp_path / "whole", **small_settings(device=DEVICE, backend="torch", epochs=3, **options)
    )
    script = (
        "import os, signal, sys; import portnet; from small_runs import small_images, small_settings\n"
        "from portnet.finetuning.callbacks import Callback\n"
        "class Kill(Callback):\n"
        "    def on_step(self, step):\n"
        "        if step.step == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"portnet.finetune(small_images(), out={str(tmp_path / 'killed')!r}, callbacks=[Kill()],\n"
        f"    **small_settings(device={DEVICE!r}, backend='torch', epochs=3, **{options!r}))"
    )
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == -signal.SIGKILL
    resumed = resume(tmp_path / "killed", data=IMAGES, backbone=small_backbone())
    expected = whole.model.weights()
    for name, array in resumed.model.weights().items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@on_cuda
def test_the_frozen_part_runs_on_the_device_where_onnxruntime_cannot(monkeypatch):
    settings = Settings("squeezenet1_1", backend="torch", device=DEVICE)
    monkeypatch.setattr("portnet.finetuning.prefix.where.preferred_here", lambda: "CPUExecutionProvider")
    found = place(settings)
    assert found.name.endswith(f"on {DEVICE}")
    model = zoo.load("squeezenet1_1", weights=None)
    x = random_inputs(model, 5)[model.inputs[0].name]
    (got,), (expected,) = found.open(model).activations(x, 2), Session(model, provider="cpu").activations(x)
    assert np.abs(got - expected).max() / np.abs(expected).max() < 1e-4
    assert place(Settings("squeezenet1_1", backend="torch")).name == "CPUExecutionProvider"


def test_a_build_of_onnxruntime_for_the_cpu_is_not_loaded_to_be_asked(monkeypatch):
    def missing(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(providers, "version", missing)
    monkeypatch.setattr(providers, "onnxruntime", lambda: pytest.fail("it was loaded"))
    assert preferred_here() == "CPUExecutionProvider"
    monkeypatch.setattr(providers, "version", lambda package: "1.0")
    monkeypatch.setattr(providers, "preferred", lambda: "the best that loads")
    assert preferred_here() == "the best that loads"


class Sees(torch.nn.Module):
    """What torch.export leaves whole on CUDA, and a tensor that is neither parameter nor buffer."""

    def __init__(self):
        super().__init__()
        self.cell, self.conv = torch.nn.GRUCell(6, 6), torch.nn.Conv2d(3, 6, 3)
        self.shift = torch.linspace(0, 1, 6, device=DEVICE)

    def forward(self, x):
        found = torch.nn.functional.adaptive_max_pool2d(self.conv(x), 1).flatten(1)
        return self.cell(found) + self.shift


class Names(torch.nn.Module):
    """Code that names its device, and so runs there alone."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(x) * torch.arange(4, device=DEVICE)


@on_cuda
@pytest.mark.parametrize(("native", "shape"), [(Sees, (2, 3, 9, 9)), (Names, (2, 4))])
def test_a_network_on_the_device_is_captured_and_stays_there(native, shape):
    network = native().to(DEVICE)
    x = torch.randn(shape, device=DEVICE)
    model = portnet.capture(network, x)
    assert {tensor.device for tensor in network.parameters()} == {torch.device(DEVICE)}
    from portnet_torch.exact import exact

    with torch.no_grad(), exact(DEVICE):
        expected = network(x).cpu().numpy()
    (got,) = Session(model, provider="cpu").run({model.inputs[0].name: x.cpu().numpy()}).values()
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@on_cuda
def test_adam_goes_on_from_its_state(engine):
    model = convnet()
    plan = plan_for(model, OptimizerSpec("adam", lr=1e-2))
    lowered = engine.lower(model, device=DEVICE)
    trainer = lowered.trainer(plan)
    trainer.step(*batch(model, 8, 0))
    weights, state = lowered.weights(), {name: array.copy() for name, array in trainer.state().items()}
    expected = trainer.step(*batch(model, 8, 1)).loss
    again = engine.lower(model, device=DEVICE)
    again.set_weights(weights)
    resumed = again.trainer(plan)
    resumed.load_state(state)
    assert resumed.step(*batch(model, 8, 1)).loss == expected
