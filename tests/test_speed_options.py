"""The engine chosen by time, batches in pieces, mixed precision, torch.compile."""

import importlib
import json
import shutil

import numpy as np
import pytest
from small_runs import small_images, small_settings

import portnet
from portnet import engines
from portnet.adapter import OptimizerSpec, pieces
from portnet.errors import InputError, TrainingError, UnknownNameError, UnsupportedError
from portnet.finetuning import choosing
from portnet.finetuning.api import resume
from portnet.finetuning.callbacks import Callback
from portnet.finetuning.choosing import Timing, choose
from portnet.finetuning.progress import SilentReporter
from portnet.finetuning.run import Run
from portnet.finetuning.settings import Settings
from portnet.testing.conformance.base import batch, plan_for
from portnet.testing.networks import convnet, mlp

IMAGES = small_images()
HERE = (Settings("mlp"), SilentReporter())


@pytest.fixture(params=["torch", "keras", "gluon"])
def backend(request):
    pytest.importorskip(f"portnet_{request.param}")
    return request.param


def test_auto_takes_the_engine_that_was_fastest(tmp_path, monkeypatch, capsys):
    milliseconds = {name: 10.0 + i for i, name in enumerate(reversed(engines.installed()))}
    monkeypatch.setattr(choosing, "_time", lambda name, *_: Timing(name, milliseconds[name], 5.0))
    settings = small_settings(backend="auto", epochs=1, progress=True)
    run = portnet.finetune(IMAGES, out=tmp_path / "run", **settings)
    fastest = engines.installed()[-1]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run.settings.backend == record["settings"]["backend"] == fastest
    assert [row["engine"] for row in record["engines"]] == engines.installed()
    assert fastest in record["environment"]
    assert "is the fastest here" in capsys.readouterr().out


def test_a_run_killed_while_its_engine_is_chosen_chooses_when_it_is_resumed(tmp_path, monkeypatch, capsys):
    """Its record, written before, says "auto"; what it came to is that of a run that was left alone."""
    kept = tmp_path / "killed"

    def killed(name, *_):
        if not kept.exists():
            shutil.copytree(tmp_path / "run", kept, ignore=shutil.ignore_patterns(".lock"))
        return Timing(name, 10.0 + (name != "torch"), 5.0)

    pytest.importorskip("portnet_torch")
    monkeypatch.setattr(choosing, "_time", killed)
    settings = small_settings(backend="auto", epochs=1)
    whole = portnet.finetune(IMAGES, out=tmp_path / "run", **settings)
    assert json.loads((kept / "run.json").read_text())["settings"]["backend"] == "auto"
    run = resume(kept, data=IMAGES, backbone=settings["backbone"])
    assert run.settings.backend == run.record["settings"]["backend"] == "torch"
    assert run.model.digest() == whole.model.digest()
    assert run.record["resumed"] == [{"after_steps": 0, "changed": {}}]
    assert run.record["environment"] == whole.record["environment"]
    assert [row["engine"] for row in run.record["engines"]] == engines.installed()
    assert "environment is another" not in capsys.readouterr().out


def test_steps_are_really_timed():
    model = mlp()
    before = model.digest()
    for timing in choosing.time_engines(model, plan_for(model), batch(model, 6), *HERE, is_cut=True):
        assert 0 < timing.milliseconds < 60_000
        assert timing.images_per_second == pytest.approx(6000 / timing.milliseconds, rel=0.1)
    assert model.digest() == before


def test_engines_that_cannot_are_passed_over_with_their_reason():
    model = mlp()
    found = choosing.time_engines(model, plan_for(model, precision="bf16"), batch(model, 4), *HERE, is_cut=False)
    notes = {timing.engine: timing.note for timing in found}
    assert "precision 'bf16'" in notes.get("gluon", "precision 'bf16'")
    with pytest.raises(UnsupportedError, match="no engine can train"):
        choose([Timing("keras", note="no")])


def test_accumulated_batches_are_one_batch(backend):
    """Without batch norm and dropout, 3 batches of 2 are one of 6."""
    settings = small_settings(backend=backend, head="linear", batch_norm="frozen", epochs=2, lr=1e-2, clip_norm=0.5)
    whole = portnet.finetune(IMAGES, **settings)
    parts = portnet.finetune(IMAGES, **{**settings, "batch_size": 2}, accumulate=3)
    assert len(parts.history.losses) == len(whole.history.losses)
    np.testing.assert_allclose(parts.history.losses, whole.history.losses, rtol=1e-3)
    after, expected = parts.model.weights(), whole.model.weights()
    for name, array in after.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_pieces_and_clipping_are_the_same_on_every_engine():
    """And the limit is in force: without it the losses are others."""
    runs = {}
    for name in engines.installed():
        for clip in (0.05, None):
            settings = small_settings(backend=name, head="linear", batch_norm="frozen", epochs=2, lr=5e-2, cache="off")
            run = portnet.finetune(IMAGES, **settings | {"batch_size": 2}, accumulate=3, clip_norm=clip)
            runs[name, clip] = np.array(run.history.losses)
    first = engines.installed()[0]
    for (_, clip), losses in runs.items():
        np.testing.assert_allclose(losses, runs[first, clip], atol=1e-4)
    assert np.abs(runs[first, 0.05] - runs[first, None]).max() > 1e-2


def test_float32_is_left_alone_by_a_run_in_bf16():
    precision = pytest.importorskip("portnet_keras.precision")
    tf = pytest.importorskip("tensorflow")
    with precision.computes_in("bf16"):
        assert tf.config.optimizer.get_experimental_options()["auto_mixed_precision_onednn_bfloat16"]
    assert not tf.config.optimizer.get_experimental_options()["auto_mixed_precision_onednn_bfloat16"]


def test_a_run_of_accumulated_batches_resumes_bit_identical(tmp_path, backend):
    class Fail(Callback):
        def on_step(self, step):
            if step.step == 2:
                raise RuntimeError("power cut")

    settings = small_settings(backend=backend, epochs=2, batch_size=3, accumulate=2)
    whole = portnet.finetune(IMAGES, **settings)
    with pytest.raises(TrainingError):
        portnet.finetune(IMAGES, out=tmp_path / "run", callbacks=[Fail()], **settings)
    run = resume(tmp_path / "run", data=IMAGES, progress=False, backbone=settings["backbone"])
    assert run.model.digest() == whole.model.digest()


def test_pieces_share_the_batch_by_weight():
    plan = plan_for(mlp(), accumulate=2, class_weights=(1.0, 3.0, 1.0, 0.0))
    x, y = np.zeros((5, 5), np.float32), np.array([0, 1, 1, 2, 3])
    found = pieces(plan, (x, x), y)
    assert [(len(a), len(b), len(targets)) for (a, b), targets, _ in found] == [(3, 3, 3), (2, 2, 2)]
    assert [share for *_, share in found] == [7 / 8, 1 / 8]
    assert [len(targets) for _, targets, _ in pieces(plan, x, np.array([0, 0, 0, 3, 3]))] == [3]
    assert len(pieces(plan, x, np.array([3] * 5))) == 1


@pytest.mark.parametrize(("name", "precision"), [("torch", "bf16"), ("torch", "fp16"), ("keras", "bf16")])
def test_mixed_precision_is_near_and_resumes_bit_identical(name, precision):
    engine = pytest.importorskip(f"portnet_{name}").Engine()
    if name == "keras" and "bf16" not in engine.precisions("cpu"):
        pytest.skip("this processor does not compute in bf16")
    model = convnet()
    plan = plan_for(model, OptimizerSpec("adam", lr=1e-2), precision=precision, clip_norm=1.0)
    losses = {}
    for name in ("fp32", precision):
        lowered = engine.lower(model)
        trainer = lowered.trainer(plan_for(model, plan.optimizer, precision=name, clip_norm=1.0))
        losses[name] = [trainer.step(*batch(model, 8, seed)).loss for seed in range(4)]
    assert losses[precision] != losses["fp32"]
    np.testing.assert_allclose(losses[precision], losses["fp32"], rtol=0.05)
    assert all(array.dtype == np.float32 for array in lowered.weights().values())
    weights, state = lowered.weights(), {name: array.copy() for name, array in trainer.state().items()}
    expected = [trainer.step(*batch(model, 8, seed)).loss for seed in range(4, 6)]
    again = engine.lower(model)
    again.set_weights(weights)
    second = again.trainer(plan)
    second.load_state(state)
    assert [second.step(*batch(model, 8, seed)).loss for seed in range(4, 6)] == expected


def test_what_an_engine_cannot_do_is_one_line(backend):
    other = "bf16" if backend == "gluon" else "fp16"
    with pytest.raises(UnsupportedError, match=rf"engine {backend}: got precision '{other}', expected fp32") as caught:
        portnet.finetune(IMAGES, **small_settings(backend=backend, precision=other, epochs=1))
    assert "\n" not in str(caught.value)
    if backend != "torch":
        with pytest.raises(UnsupportedError, match="compile=True"):
            portnet.finetune(IMAGES, **small_settings(backend=backend, compile=True, epochs=1))


def test_numbers_that_mean_nothing_are_refused():
    with pytest.raises(InputError, match="accumulate: got 0"):
        portnet.finetune(IMAGES, **small_settings(accumulate=0))
    with pytest.raises(UnknownNameError, match="fp8"):
        portnet.finetune(IMAGES, **small_settings(precision="fp8"))


def test_a_compiled_step_is_the_step_and_without_a_compiler_one_line(monkeypatch, tmp_path):
    engine = pytest.importorskip("portnet_torch").Engine()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model = mlp()
    plain, fast = (engine.lower(model).trainer(plan_for(model, compile=compile)) for compile in (False, True))
    for size in (6, 6):
        x, y = batch(model, size, seed=size)
        assert fast.step(x, y).loss == pytest.approx(plain.step(x, y).loss, rel=1e-4)
    import torch

    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnsupportedError, match=r"torch.compile failed.*Install a C\+\+ compiler"):
        engine.lower(convnet()).trainer(plan_for(convnet(), compile=True)).step(*batch(convnet(), 4))


OUT_OF_MEMORY = {
    "torch": [
        ("torch", "OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB."),
        ("builtins", "RuntimeError", "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    ],
    "keras": [("tensorflow.errors", "ResourceExhaustedError", "OOM when allocating tensor with shape[8,8]")],
    "gluon": [
        ("mxnet.base", "MXNetError", "Traceback\nMXNetError: Failed to allocate CPU Memory"),
        ("mxnet.base", "MXNetError", "cudaMalloc retry failed: out of memory"),
    ],
}


def _raised(backend, module, name, message):
    engines.engine(backend)
    kind = getattr(importlib.import_module(module), name)
    return kind(None, None, message) if backend == "keras" else kind(message)


@pytest.mark.parametrize("number", [0, 1])
def test_memory_that_runs_out_is_told_with_what_to_do(tmp_path, monkeypatch, backend, number):
    """And the network of the last checkpoint is there."""
    error = _raised(backend, *OUT_OF_MEMORY[backend][number % len(OUT_OF_MEMORY[backend])])
    lower = type(engines.engine(backend)).lower

    def lowered(self, model, **options):
        result = lower(self, model, **options)
        make = result.trainer

        def trainer(plan):
            made = make(plan)
            step, left = made.step, iter(range(2))
            made.step = lambda *batch: step(*batch) if next(left, None) is not None else _raise(error)
            return made

        result.trainer = trainer
        return result

    monkeypatch.setattr(type(engines.engine(backend)), "lower", lowered)
    settings = small_settings(backend=backend, epochs=2, checkpoint_every=1, val=0)
    with pytest.raises(TrainingError) as caught:
        portnet.finetune(IMAGES, out=tmp_path / "run", **settings)
    message = str(caught.value)
    assert message.startswith("out of memory on cpu: got batches of 6, expected what fits beside the network (")
    assert "Take batch_size=3 and accumulate=2, which makes the same steps; or freeze more" in message
    assert "\n" not in message
    assert len(Run.load(tmp_path / "run").history.losses) == 2


def test_other_errors_of_a_framework_stay_what_they_are(backend):
    adapter = engines.engine(backend)
    assert not adapter.is_out_of_memory(RuntimeError("shapes do not match"))
    assert adapter.is_out_of_memory(MemoryError())


def _raise(error):
    raise error
