"""JPEGs decoded into memory that threads keep: the very bytes of memory that is new, and no more kept than said."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import cykooz_resizer as cykooz
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from portnet.data import jpeg, scratch
from portnet.data.lazy import LazyImage
from portnet.data.preprocess import normalise, to_bytes
from portnet.graph.metadata import Preprocessing


def encoded(width, height, seed=0, mode="RGB", **form):
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.convert(mode).save(file, "JPEG", **form)
    return file.getvalue()


def plainly(data, size, box, reduction=1):
    """Decode and resize three channels through memory that is new each time."""
    height, width, *_ = simplejpeg.decode_jpeg_header(data)
    width, height = -(-width // reduction), -(-height // reduction)
    pixels = simplejpeg.decode_jpeg(data, "RGB", min_width=width, min_height=height)
    left, top, right, bottom = (side / reduction for side in box)
    options = cykooz.ResizeOptions(
        resize_alg=cykooz.ResizeAlg.convolution(cykooz.FilterType.bilinear),
        crop_box=cykooz.CropBox(left, top, right - left, bottom - top),
    )
    source = cykooz.ImageData(width, height, cykooz.PixelType.U8x3, pixels.tobytes())
    target = cykooz.ImageData(*size, cykooz.PixelType.U8x3)
    cykooz.Resizer().resize(source, target, options)
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(size[1], size[0], 3)


def fast(data, size, **options):
    image = LazyImage("x", lambda: data, is_encoded=True)
    return to_bytes(image, Preprocessing(size=size[::-1], resize=None), decoder="fast", **options)


@pytest.mark.parametrize("form", [{}, {"subsampling": 0}, {"progressive": True}, {"mode": "L"}], ids=str)
@pytest.mark.parametrize("planar", [False, True])
def test_the_bytes_are_those_of_memory_that_is_new(form, planar):
    random = np.random.default_rng(1)
    for trial in range(60):
        width, height = (int(side) for side in random.integers(1, 300 if trial % 2 else 24, 2))
        size = tuple(int(side) for side in random.integers(1, 80, 2))
        left, top = int(random.integers(width)), int(random.integers(height))
        box = (left, top, int(random.integers(left, width)) + 1, int(random.integers(top, height)) + 1)
        data = encoded(width, height, trial, **form)
        found = fast(data, size, region=lambda *_, box=box: box, planar=planar)
        assert np.array_equal(found, plainly(data, size, box))


@pytest.mark.parametrize("size", [(801, 603), (640, 481), (335, 257)])
def test_a_scaled_decode_is_the_same(size):
    data = encoded(*size)
    for shorter, reduction in ((size[1] // 4, 2), (size[1] // 8, 4), (size[1] // 16, 8)):
        found = fast(data, (shorter, shorter), draft=True)
        assert np.array_equal(found, plainly(data, (shorter, shorter), (0, 0, *size), reduction))


def test_the_layout_changes_no_value():
    data = encoded(120, 90)
    for size in ((40, 30), (120, 90)):
        plain, planar = (fast(data, size, planar=planar) for planar in (False, True))
        assert plain.flags["C_CONTIGUOUS"]
        assert planar.transpose(2, 0, 1).flags["C_CONTIGUOUS"]
        assert np.array_equal(plain, planar)
        for color in ("RGB", "BGR", "GRAY"):
            form = {"mean": (0.4,), "std": (0.3,)} if color == "GRAY" else {}
            preprocessing = Preprocessing(color=color, **form)
            assert np.array_equal(*(normalise(pixels[None], preprocessing) for pixels in (plain, planar)))


def test_an_image_does_not_change_when_the_next_is_decoded():
    first = fast(encoded(200, 150, 1), (50, 40))
    kept = first.copy()
    fast(encoded(200, 150, 2), (50, 40))
    assert np.array_equal(first, kept)


def test_threads_do_not_share_memory():
    files = [encoded(160 + seed, 120, seed) for seed in range(8)] * 12
    alone = [fast(data, (60, 50)) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: fast(data, (60, 50)), files))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def kept_bytes():
    return sum(memory.nbytes for memory in scratch._OF_THREAD.by_use.values())


def in_a_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_what_is_large_is_not_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(scratch, "KEPT", 200 * 150 * 4)

    def decode():
        (tmp_path / "large.jpg").write_bytes(encoded(300, 200))
        preprocessing = Preprocessing(size=(30, 40), resize=None)
        large = to_bytes(tmp_path / "large.jpg", preprocessing, decoder="fast")
        kept = [kept_bytes()]
        for width in (50, 200, 100):
            fast(encoded(width, 150), (40, 30))
            kept.append(kept_bytes())
        return large, kept

    large, kept = in_a_thread(decode)
    assert np.array_equal(large, plainly(encoded(300, 200), (40, 30), (0, 0, 300, 200)))
    file_and_target = kept[0]
    assert file_and_target < 60_000
    assert [total - file_and_target for total in kept[1:]] == [50 * 150 * 4, 200 * 150 * 4, 200 * 150 * 4]


def test_what_a_thread_kept_ends_with_it():
    assert in_a_thread(lambda: fast(encoded(90, 80), (9, 9)).shape and kept_bytes()) > 0
    assert in_a_thread(kept_bytes) == 0


def test_a_file_that_grows_or_shrinks_meanwhile(tmp_path, monkeypatch):
    data = encoded(90, 80)
    (tmp_path / "x.jpg").write_bytes(data)

    for size in (1, 100, len(data) - 1, len(data), 2 * len(data)):
        monkeypatch.setattr(jpeg.os, "fstat", lambda _, size=size: type("Stat", (), {"st_size": size}))
        found = bytes(jpeg._read(tmp_path / "x.jpg"))
        assert found == data[: size + 1] or (size == 1 and found == data[:4])
