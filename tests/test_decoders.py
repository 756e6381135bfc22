"""The fast decoder against Pillow: the same policy, and pixels that differ by a level at most."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import portnet
from portnet.data import Loader, decoders, load_dataset
from portnet.data.decoders import choose, choose_again, describe
from portnet.data.jpeg import plain_jpeg
from portnet.data.pixels import as_array, resize_fast
from portnet.data.preprocess import to_bytes
from portnet.errors import DataError, MissingDependencyError, UnknownNameError
from portnet.finetuning.api import resume
from portnet.finetuning.run import Run
from portnet.graph.metadata import Preprocessing

STRETCHED = Preprocessing(size=(48, 64), resize=None)
CROPPED = Preprocessing(size=(48, 48), resize=56)


def photo(width=333, height=251, seed=0):
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / a) * np.cos(columns / b) for a, b in ((9, 31), (23, 7), (41, 13))]
    noise = np.random.default_rng(seed).normal(0, 10, (height, width, 3))
    return Image.fromarray(np.clip(np.stack(waves, axis=2) * 100 + 128 + noise, 0, 255).astype(np.uint8))


def compare(path, preprocessing=STRETCHED, **options):
    fast = to_bytes(path, preprocessing, decoder="fast", **options).astype(int)
    slow = to_bytes(path, preprocessing, decoder="pillow", **options).astype(int)
    assert fast.shape == slow.shape
    difference = np.abs(fast - slow)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.25
    return difference


@pytest.mark.parametrize("preprocessing", [STRETCHED, CROPPED], ids=["stretched", "cropped"])
@pytest.mark.parametrize("draft", [False, True])
@pytest.mark.parametrize("size", [(333, 251), (801, 1203), (48, 40)])
@pytest.mark.parametrize(
    "form",
    [{}, {"quality": 30}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"optimize": True}],
    ids=str,
)
def test_jpegs_agree_to_a_level(tmp_path, preprocessing, draft, size, form):
    photo(*size).save(tmp_path / "x.jpg", **form)
    compare(tmp_path / "x.jpg", preprocessing, draft=draft)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_jpegs_agree(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo(643, 489).save(tmp_path / "x.jpg", exif=exif)
    compare(tmp_path / "x.jpg", draft=True)
    compare(tmp_path / "x.jpg", draft=True, region=lambda width, height: (width // 5, 3, width // 2, height - 7))


def test_a_header_that_may_tell_of_a_rotation_is_pillows(tmp_path):
    file = io.BytesIO()
    photo(120, 80).save(file, "JPEG")
    plain = file.getvalue()
    assert plain_jpeg(plain) == (plain, (120, 80))
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation='6' xmlns:tiff='x'/>".replace(b"'", b'"')
    padded = plain[:2] + b"\xff\xe1" + (len(xmp) + 2).to_bytes(2, "big") + xmp + plain[2:]
    assert plain_jpeg(padded) is None
    (tmp_path / "x.jpg").write_bytes(padded)
    compare(tmp_path / "x.jpg")
    filled = plain[:2] + b"\xff\xff" + plain[2:]
    assert plain_jpeg(filled) == (filled, (120, 80))
    comment = plain[:2] + b"\xff\xfe\0\x08Exif\0\0" + plain[2:]
    assert plain_jpeg(comment) == (comment, (120, 80))
    for kept in (3, 4, 5, 20, len(plain) // 4):
        assert plain_jpeg(plain[:kept]) is None or kept > 20
    assert plain_jpeg(b"\xff\xd8\xff" + b"\0" * 40) is None


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "gif"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_other_formats_agree(tmp_path, suffix, mode):
    photo().convert(mode).save(tmp_path / f"x.{suffix}")
    compare(tmp_path / f"x.{suffix}")
    compare(np.asarray(photo().convert(mode)))


def test_grey_and_cmyk_jpegs_agree(tmp_path):
    for mode in ("L", "CMYK"):
        photo(400, 300).convert(mode).save(tmp_path / "x.jpg")
        compare(tmp_path / "x.jpg", draft=True)


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic", "lanczos"])
def test_other_filters_are_pillows(tmp_path, interpolation):
    photo().save(tmp_path / "x.jpg")
    filtered = Preprocessing(size=(48, 64), resize=None, interpolation=interpolation)
    assert compare(tmp_path / "x.jpg", filtered).max() == 0


def test_an_image_of_the_right_size_is_left_alone(tmp_path):
    photo(64, 48).save(tmp_path / "x.png")
    assert compare(tmp_path / "x.png").max() == 0


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98])
def test_a_damaged_jpeg_is_pillows_to_judge(tmp_path, kept):
    file = io.BytesIO()
    photo().save(file, "JPEG")
    whole = file.getvalue()
    (tmp_path / "x.jpg").write_bytes(whole[: int(len(whole) * kept)])
    messages = []
    for decoder in ("fast", "pillow"):
        with pytest.raises(DataError) as error:
            to_bytes(tmp_path / "x.jpg", STRETCHED, decoder=decoder)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def test_what_stands_behind_a_jpeg_does_not_matter(tmp_path):
    photo().save(tmp_path / "x.jpg")
    with (tmp_path / "x.jpg").open("ab") as file:
        file.write(b"\0thumbnails and the like" * 99)
    compare(tmp_path / "x.jpg", draft=True)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    photo(300, 200).save(tmp_path / "x.jpg")
    monkeypatch.setattr("portnet.data.images.MAX_PIXELS", 59_999)
    monkeypatch.setattr("portnet.data.images.decode_jpeg", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match="got 300 × 200 pixels"):
        to_bytes(tmp_path / "x.jpg", STRETCHED, decoder="fast")


def test_any_box_is_resized_as_pillow_does():
    random = np.random.default_rng(0)
    for trial in range(600):
        width, height = random.integers(2, 60, 2)
        image = random.integers(0, 256, (height, width, 4)).astype(np.uint8)
        left, top = random.uniform(0, (width - 1, height - 1))
        ends = random.uniform((left + 0.5, top + 0.5), (width, height))
        box = (
            left,
            top,
            *(float(side) if trial % 2 else float(end) for side, end in zip((width, height), ends, strict=True)),
        )
        fast = as_array(resize_fast(image, (9, 7), box), planar=bool(trial % 3)).astype(int)
        slow = np.asarray(Image.fromarray(image[..., :3]).resize((9, 7), Image.Resampling.BILINEAR, box=box))
        assert np.abs(fast - slow).max() <= 1


def test_many_threads_get_the_same_pixels(tmp_path):
    paths = []
    for seed in range(6):
        paths.append(tmp_path / f"{seed}.jpg")
        photo(400, 300, seed).save(paths[-1])
    expected = [to_bytes(path, STRETCHED, decoder="fast") for path in paths] * 10
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda path: to_bytes(path, STRETCHED, decoder="fast"), paths * 10))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def without_fast(monkeypatch):
    real = decoders.find_spec
    monkeypatch.setattr(decoders, "find_spec", lambda name: None if name == "simplejpeg" else real(name))


def test_the_choice(monkeypatch):
    assert [choose(name) for name in ("auto", "fast", "pillow")] == ["fast", "fast", "pillow"]
    assert describe("fast").startswith("simplejpeg ")
    assert describe("pillow") in describe("fast")
    assert choose_again("auto", describe("pillow")) == "pillow"
    assert choose_again("auto", describe("fast")) == choose_again("auto", "") == "fast"
    without_fast(monkeypatch)
    assert [choose(name) for name in ("auto", "pillow")] == ["pillow", "pillow"]
    assert choose_again("auto", "simplejpeg 1.0") == "pillow"
    with pytest.raises(MissingDependencyError, match=r"pip install 'portnet\[fast\]'"):
        choose("fast")
    with pytest.raises(UnknownNameError, match="unknown decoder 'turbo'"):
        choose("turbo")


def test_a_loader_uses_what_it_is_told(tmp_path):
    for i in range(4):
        photo(100, 80, i).save(tmp_path / f"{i}.jpg")
    dataset = load_dataset([(tmp_path / f"{i}.jpg", i % 2) for i in range(4)])
    for decoder in ("fast", "pillow"):
        (x, _), *_ = Loader(dataset, STRETCHED, 4, shuffle=False, seed=0, decoder=decoder).epoch(0)
        bytes_ = np.stack([to_bytes(item, STRETCHED, draft=True, decoder=decoder) for item in dataset.items])
        assert np.array_equal(x, portnet.data.normalise(bytes_, STRETCHED))


class Stop:
    def on_step(self, step):
        if step.step == 2:
            raise KeyboardInterrupt


@pytest.fixture
def stopped(digits, tmp_path):
    """Returns a function that begins a run with a decoder and stops it."""
    pytest.importorskip("portnet_torch")
    options = {"backbone": "squeezenet1_1", "size": 48, "batch_size": 16, "epochs": 2, "freeze": "until:fire8"}

    def begin(**changes):
        out = tmp_path / "run"
        return portnet.finetune(
            digits, backend="torch", cache="off", callbacks=[Stop()], progress=False, out=out, **options, **changes
        )

    return begin


def test_a_run_goes_on_with_the_decoder_it_began_with(stopped, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        without_fast(patch)
        run = stopped()
    assert run.record["data"]["decoder"] == [describe("pillow")]
    assert resume(tmp_path / "run").record["data"]["decoder"] == [describe("pillow")]
    assert "decoded by" not in capsys.readouterr().out


def test_a_run_that_goes_on_with_another_decoder_says_so(stopped, tmp_path, monkeypatch, capsys):
    assert stopped().record["data"]["decoder"] == [describe("fast")]
    without_fast(monkeypatch)
    resume(tmp_path / "run")
    said = " ".join(capsys.readouterr().out.split())
    assert f"images are decoded by {describe('pillow')} now; the run began with {describe('fast')}" in said
    assert Run.load(tmp_path / "run").record["data"]["decoder"] == [describe("fast"), describe("pillow")]


def test_a_decoder_that_was_insisted_on_is_not_replaced(stopped, tmp_path, monkeypatch):
    stopped(decoder="fast")
    without_fast(monkeypatch)
    with pytest.raises(MissingDependencyError, match="fast decoder"):
        resume(tmp_path / "run")
