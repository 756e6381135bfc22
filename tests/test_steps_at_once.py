"""Several steps in one call of an engine: the same steps, however a run is taken apart."""

import numpy as np
import pytest
from small_runs import small_images, small_settings

import portnet
from portnet.adapter import OptimizerSpec, ParameterPlan, TrainPlan
from portnet.engines import engine, installed
from portnet.finetuning.api import resume
from portnet.finetuning.callbacks import Callback
from portnet.finetuning.interval import Interval
from portnet.finetuning.prefix.batches import CachedBatches
from portnet.testing.networks import CLASSES, convnet

ENGINES = installed()
STEPS = 7
RATES = [1e-2 * (1 + step) for step in range(STEPS)]


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PORTNET_CACHE", str(tmp_path / "cache"))


def batches():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(STEPS, 4, 3, 12, 12)).astype(np.float32)
    return x, generator.integers(0, CLASSES, (STEPS, 4))


def trained(name, parts, **options):
    """Take the steps in parts, 0 for one by one; return losses, hits, weights and the trainer's state."""
    model = convnet()
    parameters = {name: ParameterPlan() for name, role in model.roles.items() if role.trainable}
    lowered = engine(name).lower(model)
    trainer = lowered.trainer(TrainPlan(OptimizerSpec("sgd", weight_decay=1e-3), parameters, **options))
    x, y = batches()
    results, first = [], 0
    for part in parts:
        if part:
            results += trainer.steps(x[first : first + part], y[first : first + part], RATES[first : first + part])
        else:
            trainer.set_lr(RATES[first])
            results.append(trainer.step(x[first], y[first]))
        first += part or 1
    return [(each.loss, each.correct) for each in results], lowered.weights(), trainer.state()


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one) and set(one) == set(other)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("options", [{}, {"accumulate": 2, "clip_norm": 0.1}], ids=["plain", "in pieces"])
def test_steps_come_out_bit_identical_however_they_are_taken_apart(name, options):
    whole, parts = trained(name, [STEPS], **options), trained(name, [1, 4, 2], **options)
    assert len(whole[0]) == STEPS
    assert whole[0] == parts[0]
    assert same(whole[1], parts[1])
    assert same(whole[2], parts[2])


@pytest.mark.parametrize("name", ENGINES)
def test_steps_are_those_of_step(name):
    together, alone = trained(name, [STEPS]), trained(name, [0] * STEPS)
    np.testing.assert_allclose([loss for loss, _ in together[0]], [loss for loss, _ in alone[0]], atol=1e-5)
    for array, other in ((together[part][name], alone[part][name]) for part in (1, 2) for name in together[part]):
        np.testing.assert_allclose(array, other, atol=1e-5)


class Looking(Callback):
    """Listens to every step; ends the run after one of them."""

    def __init__(self, last=None):
        self.last, self.seen = last, []

    def on_step(self, step):
        self.seen.append(step.step)
        return step.step == self.last


class Failing(Callback):
    """Fails at a validation, where a step has been counted."""

    def __init__(self, step):
        self.step = step

    def on_validation(self, validation):
        if validation.step >= self.step:
            raise RuntimeError("enough")


def finetuned(name, **changes):
    settings = small_settings(backend=name, freeze="backbone", epochs=4, lr=1e-2, early_stop=50, schedule="cosine")
    return portnet.finetune(small_images(32), **settings | {"cache": "memory"} | changes)


@pytest.fixture
def calls(monkeypatch):
    """Count the batches that are asked for at once."""
    found, several = [], CachedBatches.several

    def counting(self, epoch, start, most):
        x, y = several(self, epoch, start, most)
        found.append(len(y))
        return x, y

    monkeypatch.setattr(CachedBatches, "several", counting)
    return found


@pytest.mark.parametrize("name", ENGINES)
def test_who_looks_changes_nothing(name, calls, tmp_path):
    plain = finetuned(name)
    assert max(calls) > 1
    calls.clear()
    looked_at = finetuned(name, val_every=3, callbacks=[Looking()], checkpoint_every=1, out=tmp_path / "run")
    assert set(calls) == {1}
    assert plain.history.losses == looked_at.history.losses
    assert plain.history.validations[-1] == looked_at.history.validations[-1]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("last", [3, 6])
def test_a_run_that_ends_between_and_is_resumed_ends_bit_identical(name, last, tmp_path):
    options = {"val_every": 3, "checkpoint_every": 2}
    whole = finetuned(name, **options)
    with pytest.raises(portnet.errors.TrainingError, match="enough"):
        finetuned(name, **options, out=tmp_path / "run", callbacks=[Failing(last)])
    again = resume(tmp_path / "run", data=small_images(32), progress=False, backbone=small_settings()["backbone"])
    assert again.history.losses == whole.history.losses
    assert same(again.model.weights(), whole.model.weights())


def test_batches_handed_over_at_once_are_those_of_the_epoch():
    from portnet.data.dataset import Dataset
    from portnet.data.loader import Loader
    from portnet.graph.metadata import Preprocessing

    labels = np.arange(22) % 3
    loader = Loader(Dataset(("",) * 22, labels, ("a", "b", "c")), Preprocessing(size=(1, 1)), 4, shuffle=True, seed=0)
    source = CachedBatches(loader, [np.arange(44.0).reshape(22, 2), np.arange(22.0).reshape(22, 1)], np.arange(22))
    singles = [([part.copy() for part in x], y) for x, y in source.epoch(1, 1)]
    parts, start = [], 1
    while start < len(source):
        (a, b), y = source.several(1, start, 3)
        assert a.dtype == b.dtype == np.float32
        parts += [([a[i].copy(), b[i].copy()], y[i]) for i in range(len(y))]
        start += len(y)
    assert [len(y) for _, y in parts] == [4, 4, 4, 4, 2]
    for (x, y), (other, labels) in zip(parts, singles, strict=True):
        assert np.array_equal(y, labels)
        assert all(map(np.array_equal, x, other))


def test_large_activations_are_handed_over_one_batch_at_a_time():
    class Source:
        batch_size = 32

    assert CachedBatches(Source(), [np.empty((1, 2048), np.float32)], None).steps_at_once == 16
    assert CachedBatches(Source(), [np.empty((1, 256, 13, 13), np.float32)], None).steps_at_once == 1


@pytest.mark.parametrize(("every", "step", "expected"), [("3", 0, 3), ("3", 2, 1), ("3", 3, 3), ("1 epoch", 2, np.inf)])
def test_steps_until_an_interval_is_due(every, step, expected):
    assert Interval.parse(every).steps_until(step) == expected
