"""Batches in a seeded order that can be entered anywhere, and augmentation that is the same everywhere."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from portnet.data import Augment, Loader, load_dataset, loader, normalise
from portnet.data.rng import Purpose, generator
from portnet.data.threads import in_threads
from portnet.errors import DataError, InputError
from portnet.graph.metadata import Preprocessing

PLAIN = Preprocessing(size=(6, 8), resize=None, scale=1, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture
def dataset():
    """Twenty-three images; the first byte of each is its index."""
    pixels = np.random.default_rng(0).integers(0, 256, (23, 6, 8, 3), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(23)
    return load_dataset((pixels, np.arange(23) % 3))


def make(dataset, **changes):
    options = {"shuffle": True, "seed": 5, "workers": 3} | changes
    return Loader(dataset, PLAIN, options.pop("batch_size", 4), **options)


def indices(batches):
    return [int(i) for x, _ in batches for i in x[:, 0, 0, 0]]


def assert_same(batches, expected):
    batches, expected = list(batches), list(expected)
    assert len(batches) == len(expected)
    for (x, y), (expected_x, expected_y) in zip(batches, expected, strict=True):
        assert np.array_equal(x, expected_x)
        assert np.array_equal(y, expected_y)


def test_batches_have_the_stated_form(dataset):
    batches = list(make(dataset).epoch(0))
    assert [len(y) for _, y in batches] == [4, 4, 4, 4, 4, 3]
    assert len(make(dataset)) == 6
    for x, y in batches:
        assert x.shape == (len(y), 3, 6, 8)
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
    assert sorted(indices(batches)) == list(range(23))


def test_labels_stay_with_their_images(dataset):
    for x, y in make(dataset).epoch(2):
        assert np.array_equal(y, x[:, 0, 0, 0].astype(int) % 3)


def test_unshuffled_is_the_datasets_order(dataset):
    assert indices(make(dataset, shuffle=False).epoch(7)) == list(range(23))


def test_drop_last(dataset):
    batches = make(dataset, drop_last=True)
    assert len(batches) == len(list(batches.epoch(0))) == 5


def test_order_is_a_function_of_seed_and_epoch_alone(dataset):
    first = make(dataset)
    later = indices(first.epoch(3))
    assert later == indices(make(dataset, workers=1, cache_bytes=0, batch_size=7).epoch(3))
    assert later == first.order(3).tolist()
    assert later != indices(first.epoch(4))
    assert later != indices(make(dataset, seed=6).epoch(3))


@pytest.mark.parametrize("start", [0, 1, 4, 6])
@pytest.mark.parametrize("augment", [None, Augment(translate=2)])
def test_resumed_epoch_is_the_tail_of_the_whole(dataset, start, augment):
    whole = list(make(dataset, augment=augment).epoch(2))
    assert_same(make(dataset, augment=augment, workers=1).epoch(2, start_batch=start), whole[start:])


def test_cache_changes_nothing_but_the_work(dataset, monkeypatch):
    decoded = []
    real = loader.to_bytes
    monkeypatch.setattr(loader, "to_bytes", lambda *a, **k: decoded.append(1) or real(*a, **k))
    cached, uncached = make(dataset), make(dataset, cache_bytes=23 * 6 * 8 * 3 - 1)
    for epoch in range(2):
        assert_same(cached.epoch(epoch), uncached.epoch(epoch))
    assert len(decoded) == 23 + 2 * 23


def test_augmented_bytes_are_not_what_is_kept(dataset):
    changed = make(dataset, augment=Augment(translate=3))
    list(changed.epoch(0))
    changed.augment = None
    assert_same(changed.epoch(1), make(dataset).epoch(1))


def test_memory_is_bounded_by_the_window(dataset, monkeypatch):
    """A slow consumer holds the readers back."""
    decoded = []
    real = loader.to_bytes
    monkeypatch.setattr(loader, "to_bytes", lambda *a, **k: decoded.append(1) or real(*a, **k))
    batches = make(dataset, batch_size=1, workers=2).epoch(0)
    next(batches)
    next(batches)
    batches.close()
    assert 2 <= len(decoded) <= 2 + 2 + 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("portnet-data")]


def test_a_failing_image_surfaces_with_its_name(tmp_path):
    for i in range(6):
        Image.new("RGB", (8, 6), (i, 0, 0)).save(tmp_path / f"{i}.png")
    dataset = load_dataset([(tmp_path / f"{i}.png", i % 2) for i in range(6)])
    (tmp_path / "4.png").write_bytes(b"gone bad")
    batches = make(dataset, shuffle=False, batch_size=2).epoch(0)
    assert indices([next(batches), next(batches)]) == [0, 1, 2, 3]
    with pytest.raises(DataError, match=r"4\.png"):
        next(batches)


@pytest.mark.parametrize("changes", [{"batch_size": 0}, {"workers": 0}, {"batch_size": 24, "drop_last": True}])
def test_what_cannot_be_read_is_refused(dataset, changes):
    with pytest.raises(InputError):
        make(dataset, **changes)


def test_bounds_of_an_epoch(dataset):
    with pytest.raises(InputError, match="start batch: got 7, expected 0 to 6"):
        make(dataset).epoch(0, 7)
    with pytest.raises(InputError, match="seed"):
        make(dataset, seed=-1).epoch(0)


def test_in_threads_keeps_order_and_looks_ahead_only_so_far():
    pulled = []

    def source():
        for i in range(50):
            pulled.append(i)
            yield i

    results = in_threads(lambda i: i * i, source(), workers=4)
    assert next(results) == 0
    assert len(pulled) <= 6
    assert list(results) == [i * i for i in range(1, 50)]


@pytest.mark.parametrize("count", [0, 1, 7, 8, 50])
def test_in_threads_takes_several_items_at_once(count):
    pulled = []

    def source():
        for i in range(count):
            pulled.append(i)
            yield i

    results = in_threads(lambda i: i * i, source(), workers=2, at_once=4)
    first = list(itertools.islice(results, 1))
    assert len(pulled) <= 16
    assert [*first, *results] == [i * i for i in range(count)]


def test_in_threads_raises_what_an_item_of_several_raised():
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda i: 1 // (5 - i), range(9), workers=2, at_once=4))


def test_in_threads_drops_what_has_not_begun_when_closed(monkeypatch):
    begun, closing = [], threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait=True, *, cancel_futures=False):
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            closing.set()
            super().shutdown(wait=wait)

    def second_waits(i):
        begun.append(i)
        if i:
            closing.wait()

    monkeypatch.setattr("portnet.data.threads.ThreadPoolExecutor", Pool)
    results = in_threads(second_waits, range(50), workers=1)
    next(results)
    results.close()
    assert begun in ([0], [0, 1])


def test_streams_of_two_purposes_and_keys_differ():
    keys = [(Purpose.ORDER, 1, 0), (Purpose.ORDER, 0, 1), (Purpose.SPLIT, 1, 0), (Purpose.AUGMENT, 1, 0, 1)]
    draws = {tuple(generator(*key).integers(0, 2**32, 4)) for key in keys}
    assert len(draws) == len(keys)


def picture(height=21, width=31):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


class Draws:
    """Stands in for a generator: coin, then shifts, then scales."""

    def __init__(self, coin, shifts, scales):
        self.coin, self.pairs = coin, [shifts, scales]

    def random(self):
        return self.coin

    def uniform(self, low, high, size):
        pair = self.pairs.pop(0)
        assert size == 2
        assert all(low <= value <= high for value in pair)
        return np.array(pair)


def test_augment_mirrors_and_shifts_whole_pixels_exactly():
    augment, image = Augment(translate=5, fill=(9, 8, 7)), picture()
    same = augment(image, Draws(0.9, (0, 0), (1, 1)))
    assert np.array_equal(same, image)
    assert np.array_equal(augment(image, Draws(0.1, (0, 0), (1, 1))), image[:, ::-1])
    shifted = augment(image, Draws(0.9, (3, -2), (1, 1)))
    assert np.array_equal(shifted[:-2, 3:], image[2:, :-3])
    assert (shifted[-2:] == (9, 8, 7)).all()
    assert (shifted[:, :3] == (9, 8, 7)).all()


def test_augment_scales_about_the_centre():
    rows, columns = np.mgrid[:41, :41]
    disc = ((rows - 20) ** 2 + (columns - 20) ** 2 <= 10**2).astype(np.uint8) * 255
    wide = Augment()(np.repeat(disc[..., None], 3, axis=2), Draws(0.9, (0, 0), (1.1, 0.9)))[..., 0] > 127
    assert wide[20].sum() == pytest.approx(21 * 1.1, abs=1)
    assert wide[:, 20].sum() == pytest.approx(21 * 0.9, abs=1)
    assert np.array_equal(wide, wide[::-1, ::-1])


def test_augment_is_a_function_of_its_generator():
    image, augment = picture(), Augment(translate=4)
    one, same, other = (augment(image, generator(Purpose.AUGMENT, 0, 0, i)) for i in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_augment_differs_by_epoch_and_image(dataset):
    changed = make(dataset, augment=Augment(translate=2), shuffle=False)
    first, second = (np.concatenate([x for x, _ in changed.epoch(k)]) for k in (0, 1))
    assert all((a != b).any() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("options", [{"translate": -1}, {"scale": (0, 1)}, {"scale": (1.1, 0.9)}])
def test_augment_refuses(options):
    with pytest.raises(InputError, match="augment"):
        Augment(**options)


def test_loader_normalises_as_asked(dataset):
    plain = Preprocessing(size=(6, 8), resize=None, color="BGR")
    (x, _), *_ = Loader(dataset, plain, 23, shuffle=False, seed=0).epoch(0)
    assert np.array_equal(x, normalise(np.stack(dataset.items), plain))


@pytest.mark.parametrize("augment", [None, Augment(crop=(0.5, 1.0))], ids=["whole", "cropped"])
def test_an_image_that_breaks_off_says_how_to_go_on_without_it(tmp_path, augment):
    for name in ("a/0", "a/1", "b/0", "b/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.jpg")
    whole = (tmp_path / "b/1.jpg").read_bytes()
    (tmp_path / "b/1.jpg").write_bytes(whole[: len(whole) // 2])
    found = load_dataset(tmp_path)
    with pytest.raises(DataError, match=r"b/1.jpg.*--on-error skip"):
        list(make(found, augment=augment).epoch(0))
    assert len(load_dataset(tmp_path, on_error="skip")) == 3
    (tmp_path / "b/1.jpg").unlink()
    with pytest.raises(DataError, match=r"b/1.jpg") as gone:
        list(make(found, augment=augment).epoch(0))
    assert "skip" not in str(gone.value)
