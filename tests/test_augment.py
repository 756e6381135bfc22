"""Augmentation against torchvision, Pillow, colorsys and hand-computed mixtures."""

import colorsys
import math
from functools import partial

import numpy as np
import pytest
from PIL import Image
from zoo_references import torchvision_models

import portnet
from portnet.data import Augment, Loader, load_dataset
from portnet.data.colour import STEPS as COLOURS
from portnet.data.geometry import Affine, random_crop
from portnet.data.mixing import cutmix, mixup, one_hot
from portnet.data.preprocess import to_bytes
from portnet.data.rng import Purpose, generator
from portnet.data.trivial import STEPS, trivial_augment
from portnet.graph.metadata import Preprocessing

PLAIN = Preprocessing(size=(16, 20), resize=None, scale=1, mean=(0, 0, 0), std=(1, 1, 1))
BLACK = (0, 0, 0)


@pytest.fixture
def photo():
    """A smooth picture with every hue and some noise."""
    rows, columns = np.mgrid[:41, :60] / 60
    channels = np.stack([rows, columns, 1 - (rows + columns) / 2], axis=2) * 255
    noise = np.random.default_rng(0).normal(0, 12, channels.shape)
    return Image.fromarray(np.clip(channels + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def transforms():
    torchvision_models()
    import torchvision.transforms

    return torchvision.transforms


def rng(seed=0):
    return np.random.default_rng(seed)


def same(image, expected):
    assert np.array_equal(np.asarray(image), np.asarray(expected))


# ---- geometry


@pytest.mark.parametrize("angle", [90, 180, 7.5, -33])
def test_rotation_is_pillows(photo, angle):
    turned = np.asarray(Affine(angle=angle)(photo, (9, 8, 7))).astype(int)
    expected = np.asarray(photo.rotate(angle, Image.Resampling.BILINEAR, fillcolor=(9, 8, 7))).astype(int)
    # Pillow turns by right angles without resampling, and rounds its matrix to 15 digits
    assert (np.abs(turned - expected).max(axis=2) > 1).mean() < 0.01


def test_a_transform_is_mirror_scale_rotation_shift_in_this_order(photo):
    change = Affine(True, (6, -4), (1.25, 0.8), 20)
    a, b, c, d, e, f = change._inverse(60, 41)
    turn = math.radians(20)
    for x, y in ((0, 0), (59, 3), (17, 40)):
        p, q = -1.25 * (x - 30), 0.8 * (y - 20.5)
        # counter-clockwise on a screen whose y points down
        u = p * math.cos(turn) + q * math.sin(turn) + 30 + 6
        v = -p * math.sin(turn) + q * math.cos(turn) + 20.5 - 4
        assert (a * u + b * v + c, d * u + e * v + f) == pytest.approx((x, y))


def test_crops_have_the_drawn_area_and_shape():
    source, area, aspect = rng(), (0.2, 0.7), (0.5, 2.0)
    boxes = [random_crop(400, 300, area, aspect, source) for _ in range(500)]
    assert all(0 <= left < right <= 400 and 0 <= top < bottom <= 300 for left, top, right, bottom in boxes)
    sizes = np.array([(right - left, bottom - top) for left, top, right, bottom in boxes])
    shares, shapes = sizes.prod(axis=1) / 120_000, sizes[:, 0] / sizes[:, 1]
    assert (shares.min() > 0.19, shares.max() < 0.71) == (True, True)
    assert (shapes.min() > 0.48, shapes.max() < 2.1) == (True, True)
    assert shares.mean() == pytest.approx(0.42, abs=0.03)  # large crops fit less often in shape


def test_a_crop_that_never_fits_is_torchvisions_fallback(transforms):
    for size in ((300, 20), (20, 300)):
        got = random_crop(*size, (0.9, 1.0), (0.75, 4 / 3), rng())
        top, left, h, w = transforms.RandomResizedCrop.get_params(Image.new("RGB", size), (0.9, 1.0), (0.75, 4 / 3))
        assert got == (left, top, left + w, top + h)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_crop_is_cut_from_the_whole_upright_image(tmp_path, suffix, orientation):
    size = (1200, 900) if suffix == "jpg" else (120, 90)
    rows, columns = np.mgrid[: size[1], : size[0]]
    pixels = np.stack([columns * 255 // size[0], rows * 255 // size[1], 0 * rows], axis=2).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(pixels).save(path, exif=exif)
    upright = Image.fromarray(pixels)
    upright = upright.transpose(Image.Transpose.ROTATE_270) if orientation == 6 else upright
    box = tuple(round(share * side) for share, side in zip((0.25, 0.1, 0.75, 0.9), upright.size * 2, strict=True))
    seen = []
    region = lambda width, height: seen.append((width, height)) or box  # noqa: E731
    got = to_bytes(path, PLAIN, draft=True, region=region)
    assert seen == [upright.size]
    expected = upright.resize((20, 16), Image.Resampling.BILINEAR, box=box)
    assert np.abs(got.astype(int) - np.asarray(expected)).max() <= 3


# ---- colours


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.7])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colours_are_torchvisions(photo, transforms, name, factor):
    same(COLOURS[name](photo, factor), getattr(transforms.functional, f"adjust_{name}")(photo, factor))


@pytest.mark.parametrize("shift", [-0.5, -0.13, 0.0, 0.07, 0.5])
def test_hue_is_torchvisions(photo, transforms, shift):
    same(COLOURS["hue"](photo, shift), transforms.functional.adjust_hue(photo, shift))


def test_hue_turns_as_colorsys_says():
    for colour in ((200, 40, 90), (10, 250, 30), (90, 90, 240)):
        turned = np.asarray(COLOURS["hue"](Image.new("RGB", (1, 1), colour), 0.25))[0, 0]
        h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in colour))
        expected = [255 * c for c in colorsys.hsv_to_rgb((h + 63 / 255) % 1, s, v)]
        assert np.abs(turned - expected).max() <= 8  # a byte of hue is up to 6 levels of a channel


def test_jitter_draws_each_factor_in_its_range_and_another_order(photo, monkeypatch):
    calls = []
    for name in COLOURS:
        monkeypatch.setitem(COLOURS, name, lambda image, factor, name=name: calls.append((name, factor)) or image)
    augment = Augment.only(brightness=0.4, contrast=1.5, saturation=0.1, hue=0.2)
    for seed in range(200):
        augment(np.asarray(photo), rng(seed))
    ranges = {"brightness": (0.6, 1.4), "contrast": (0, 2.5), "saturation": (0.9, 1.1), "hue": (-0.2, 0.2)}
    for name, (low, high) in ranges.items():
        factors = [factor for called, factor in calls if called == name]
        assert len(factors) == 200
        assert low <= min(factors) < low + (high - low) / 20
        assert high - (high - low) / 20 < max(factors) <= high
    orders = {tuple(name for name, _ in calls[i : i + 4]) for i in range(0, 800, 4)}
    assert len(orders) == 24


# ---- TrivialAugment


def test_trivial_augment_has_torchvisions_space(transforms):
    space = transforms.TrivialAugmentWide()._augmentation_space(31)
    assert list(STEPS) == list(space)
    for name, (strengths, signed) in space.items():
        assert STEPS[name].signed == signed
        expected = strengths.double().numpy() if strengths.ndim else np.zeros(1)
        np.testing.assert_allclose(STEPS[name].strengths, expected, rtol=1e-6)


@pytest.mark.parametrize("name", STEPS)
def test_trivial_augment_does_what_torchvision_does(photo, transforms, name):
    step = STEPS[name]
    apply = partial(
        transforms.autoaugment._apply_op,
        interpolation=transforms.InterpolationMode.NEAREST,
        fill=[9, 8, 7],
    )
    for strength in step.strengths[:: max(1, len(step.strengths) // 6)]:
        for sign in (1, -1) if step.signed else (1,):
            same(step.apply(photo, sign * strength, (9, 8, 7)), apply(photo, name, sign * strength))


def test_trivial_augment_does_one_step_and_every_step_comes(photo):
    chosen = set()
    for seed in range(300):
        draws = rng(seed)
        name = list(STEPS)[draws.integers(len(STEPS))]
        strength = STEPS[name].strengths[draws.integers(len(STEPS[name].strengths))]
        sign = -1 if STEPS[name].signed and draws.random() < 0.5 else 1
        chosen.add(name)
        same(trivial_augment(photo, BLACK, rng(seed)), STEPS[name].apply(photo, sign * strength, BLACK))
    assert chosen == set(STEPS)


# ---- mixing


def test_mixup_is_the_sum_it_says():
    x, labels = rng(1).normal(0, 1, (5, 3, 4, 6)).astype(np.float32), np.array([0, 1, 2, 2, 0])
    mixed, targets = mixup(x, one_hot(labels, 4), 0.7, rng(2))
    draws = rng(2)
    share, other = draws.beta(0.7, 0.7), draws.permutation(5)
    for i, j in enumerate(other):
        np.testing.assert_allclose(mixed[i], share * x[i] + (1 - share) * x[j], atol=1e-6)
        by_hand = np.zeros(4)
        by_hand[labels[i]] += share
        by_hand[labels[j]] += 1 - share
        np.testing.assert_allclose(targets[i], by_hand, atol=1e-6)
    assert (mixed.dtype, targets.dtype) == (np.float32, np.float32)


def test_cutmix_mixes_targets_by_the_area_it_pasted():
    labels, shares = np.arange(6), []
    x = np.broadcast_to(np.arange(6, dtype=np.float32)[:, None, None, None], (6, 3, 20, 30)).copy()
    for seed in range(200):
        mixed, targets = cutmix(x, one_hot(labels, 6), 1.0, rng(seed))
        for i in range(6):
            own = (mixed[i] == i).mean()
            pasted = np.unique(mixed[i][mixed[i] != i])
            assert len(pasted) <= 1
            if len(pasted):  # a box: as many pixels as its rows times its columns
                changed = mixed[i, 0] != i
                assert changed.sum() == changed.any(axis=0).sum() * changed.any(axis=1).sum()
                assert targets[i, int(pasted[0])] == pytest.approx(1 - own, abs=1e-6)
            assert targets[i].sum() == pytest.approx(1, abs=1e-6)
        shares.append(1 - own)
    assert 0.15 < np.mean(shares) < 0.5
    assert max(shares) > 0.6


def test_mixtures_of_a_mean_loss_are_means_of_the_losses():
    """Cross-entropy is linear in its target: a mixture's loss is λ of the one label's and 1 − λ of the other's."""
    from portnet.adapter import OptimizerSpec, TrainPlan
    from portnet.testing.oracle import cross_entropy

    plan, labels = TrainPlan(OptimizerSpec(), {}), np.array([0, 1, 2, 1])
    _, targets = mixup(np.zeros((4, 1, 1, 1), np.float32), one_hot(labels, 3), 1.0, rng(5))
    draws = rng(5)
    share, other = draws.beta(1.0, 1.0), draws.permutation(4)
    logits = rng(6).normal(0, 2, (4, 3))
    expected = (
        share * cross_entropy(logits, labels, plan)[0] + (1 - share) * cross_entropy(logits, labels[other], plan)[0]
    )
    assert cross_entropy(logits, targets, plan)[0] == pytest.approx(expected, rel=1e-6)


def test_with_both_each_batch_gets_one():
    x = rng().normal(0, 1, (4, 3, 8, 8)).astype(np.float32)
    both = Augment.only(mixup=1.0, cutmix=1.0)
    kinds = set()
    for seed in range(40):
        mixed, _ = both.mix(x, np.arange(4), 4, rng(seed))
        kinds.add("cutmix" if np.isin(mixed, x).all() else "mixup")
    assert kinds == {"cutmix", "mixup"}


# ---- in the loader


@pytest.fixture
def dataset():
    pixels = rng().integers(0, 256, (11, 32, 40, 3)).astype(np.uint8)
    return load_dataset((pixels, np.arange(11) % 3))


EVERYTHING = Augment(rotate=10, crop=(0.3, 1), brightness=0.4, hue=0.1, trivial=True, mixup=0.2, cutmix=1.0)


def test_augmented_batches_are_a_function_of_seed_and_epoch(dataset):
    make = partial(Loader, dataset, PLAIN, 4, shuffle=True, augment=EVERYTHING)
    first = list(make(seed=3, workers=3).epoch(1))
    again = list(make(seed=3, workers=1, cache_bytes=0).epoch(1, 1))
    for (x, y), (same_x, same_y) in zip(first[1:], again, strict=True):
        assert x.tobytes() == same_x.tobytes()
        assert y.tobytes() == same_y.tobytes()
    others = [next(iter(make(seed=3).epoch(2))), next(iter(make(seed=4).epoch(1)))]
    assert all(first[0][0].tobytes() != x.tobytes() for x, _ in others)


def test_mixed_batches_have_distributions_for_targets(dataset):
    for x, y in Loader(dataset, PLAIN, 4, shuffle=False, seed=0, augment=Augment.only(mixup=0.5)).epoch(0):
        assert (x.dtype, y.dtype, y.shape) == (np.float32, np.float32, (len(x), 3))
        np.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-6)


def test_a_crop_in_the_loader_is_of_the_original(dataset):
    loader = Loader(dataset, PLAIN, 11, shuffle=False, seed=5, augment=Augment.only(crop=(0.2, 0.6)), decoder="pillow")
    (x, _), *_ = loader.epoch(3)
    for index in range(11):
        box = random_crop(40, 32, (0.2, 0.6), (3 / 4, 4 / 3), generator(Purpose.CROP, 5, 3, index))
        image = Image.fromarray(dataset.items[index]).resize((20, 16), Image.Resampling.BILINEAR, box=box)
        assert np.array_equal(x[index].transpose(1, 2, 0), np.asarray(image))


# ---- in a run


MIXED = {"backbone": "squeezenet1_1", "size": 48, "batch_size": 16, "head": "linear", "optimizer": "sgd", "lr": 1e-4}
MIXED |= {"epochs": 2, "progress": False, "seed": 1, "augment": "default,jitter,mixup:0.4,cutmix"}


def test_mixtures_give_the_same_losses_on_every_engine(digits):
    for backend in ("torch", "keras", "gluon"):
        pytest.importorskip(f"portnet_{backend}")
    losses = [portnet.finetune(digits, backend=name, **MIXED).history.losses for name in ("torch", "keras", "gluon")]
    assert np.isfinite(losses).all()
    assert np.ptp(losses, axis=0).max() < 1e-3


class Stop:
    def on_step(self, step):
        if step.step == 4:
            raise KeyboardInterrupt


def test_a_resumed_run_meets_the_same_mixtures(digits, tmp_path):
    pytest.importorskip("portnet_torch")
    whole = portnet.finetune(digits, backend="torch", **MIXED)
    stopped = portnet.finetune(digits, backend="torch", out=tmp_path / "run", callbacks=[Stop()], **MIXED)
    assert len(stopped.history.losses) == 4
    resumed = portnet.finetuning.api.resume(tmp_path / "run", progress=False)
    assert resumed.history.losses == whole.history.losses
    assert resumed.model.digest() == whole.model.digest()
    assert resumed.settings.augment == Augment.parse(MIXED["augment"])
