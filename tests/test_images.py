"""Images of every kind become the same upright RGB bytes; bytes become the floats a network wants."""

import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from portnet.data import images, normalise, open_image, to_bytes
from portnet.data.preprocess import preprocess
from portnet.errors import DataError, InputError, ModelError
from portnet.graph.metadata import Preprocessing

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def photo(name):
    skimage = pytest.importorskip("skimage")
    return Path(skimage.__file__).parent / "data" / name


def pixels(source, **options):
    return np.asarray(open_image(source, **options)).astype(int)


def quadrants(width=24, height=16):
    """Four colours, one a corner: any flip or turn shows."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = RED
    picture[: height // 2, width // 2 :] = GREEN
    picture[height // 2 :, : width // 2] = BLUE
    picture[height // 2 :, width // 2 :] = WHITE
    return picture


def png(samples, bits, transparent=None, claimed_size=None):
    """A PNG written by hand, so that Pillow's reader is not checked against Pillow's writer."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", *(claimed_size or (width, height)), bits, kind, 0, 0, 0)
    key = b"" if transparent is None else chunk(b"tRNS", transparent)
    body = chunk(b"IHDR", header) + key + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("suffix", "options", "tolerance"),
    [
        (".png", {}, 0),
        (".bmp", {}, 0),
        (".gif", {}, 0),
        (".webp", {"lossless": True}, 0),
        (".jpg", {"quality": 95, "subsampling": 0}, 3),
    ],
)
def test_every_format_gives_the_same_pixels(tmp_path, suffix, options, tolerance):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(quadrants()).save(path, **options)
    assert np.abs(pixels(path) - quadrants()).max() <= tolerance


def test_path_pil_image_and_array_are_one(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(quadrants()).save(path)
    for source in (path, str(path), Image.open(path), quadrants()):
        assert np.array_equal(pixels(source), quadrants())


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1)])
def test_grey_arrays_become_three_equal_channels(shape):
    grey = np.arange(24, dtype=np.uint8).reshape(shape)
    assert np.array_equal(pixels(grey), np.repeat(grey.reshape(4, 6, 1), 3, axis=2))


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_opaque_modes_without_colour(tmp_path, mode):
    black_and_white = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert(mode)
    black_and_white.save(tmp_path / "image.png")
    assert pixels(tmp_path / "image.png")[..., 0].tolist() == [[0, 255], [255, 0]]


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_alpha_is_composited_over_the_background(tmp_path, suffix):
    rgba = np.zeros((8, 24, 4), np.uint8)
    rgba[:, :, 0] = 200
    rgba[:, 8:16, 3], rgba[:, 16:, 3] = 128, 255
    Image.fromarray(rgba).save(
        tmp_path / f"image{suffix}", **({"lossless": True, "exact": True} if suffix == ".webp" else {})
    )
    for source in (tmp_path / f"image{suffix}", rgba):
        got = pixels(source, background=(0, 0, 100))[4, [4, 12, 20]]
        assert np.abs(got - [(0, 0, 100), (100, 0, 50), (200, 0, 0)]).max() <= 1


def test_grey_with_alpha(tmp_path):
    Image.fromarray(np.array([[[10, 0], [10, 255]]], np.uint8), "LA").save(tmp_path / "image.png")
    assert pixels(tmp_path / "image.png").tolist() == [[[255] * 3, [10] * 3]]


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_palette_with_a_transparent_entry(tmp_path, suffix):
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *BLUE])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / f"image{suffix}", transparency=0)
    assert pixels(tmp_path / f"image{suffix}", background=GREEN).tolist() == [[list(GREEN), list(BLUE)]]


def test_colour_key_is_transparent(tmp_path):
    samples = np.array([[RED, BLUE]])
    (tmp_path / "image.png").write_bytes(png(samples, 8, struct.pack(">HHH", *RED)))
    assert pixels(tmp_path / "image.png", background=GREEN).tolist() == [[list(GREEN), list(BLUE)]]


def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path):
    samples = np.array([0, 300, 257, 32768, 65534, 65535]).reshape(1, 6, 1)
    (tmp_path / "image.png").write_bytes(png(samples, 16))
    assert pixels(tmp_path / "image.png")[0, :, 0].tolist() == [0, 1, 1, 128, 255, 255]


def test_every_16_bit_value_is_rounded(tmp_path):
    samples = np.arange(65536).reshape(256, 256, 1)
    (tmp_path / "image.png").write_bytes(png(samples, 16))
    assert np.array_equal(pixels(tmp_path / "image.png")[..., 0], np.round(samples[..., 0] / 257))


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_and_alpha(tmp_path, channels):
    samples = np.full((1, 2, channels), 65535)
    samples[0, 0, : channels - 1 + channels % 2] = 300
    (tmp_path / "image.png").write_bytes(png(samples, 16))
    assert pixels(tmp_path / "image.png").tolist() == [[[1] * 3, [255] * 3]]


def test_16_bit_grey_with_a_colour_key(tmp_path):
    samples = np.array([300, 65535]).reshape(1, 2, 1)
    (tmp_path / "image.png").write_bytes(png(samples, 16, struct.pack(">H", 300)))
    assert pixels(tmp_path / "image.png", background=GREEN).tolist() == [[list(GREEN), list(WHITE)]]


def test_gif_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    frames[0].save(tmp_path / "image.gif", save_all=True, append_images=frames[1:])
    assert pixels(tmp_path / "image.gif")[0, 0].tolist() == list(RED)


def test_cmyk_jpeg_as_adobe_writes_it(tmp_path):
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    inks.save(tmp_path / "image.jpg", quality=100)
    stored = (tmp_path / "image.jpg").read_bytes()
    assert b"Adobe" in stored  # the marker that says: inverted
    assert np.abs(pixels(tmp_path / "image.jpg") - RED).max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_rotation_gives_the_upright_picture(tmp_path, orientation, suffix):
    # TIFF 6.0: where the stored first row and first column belong in the upright picture
    upright = quadrants()
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"image{suffix}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95)
    assert np.abs(pixels(path)[[2, 2, 13, 13], [2, 21, 2, 21]] - [RED, GREEN, BLUE, WHITE]).max() <= 8
    assert np.array_equal(pixels(Image.open(path)), pixels(path))


def test_broken_exif_does_not_cost_the_picture(tmp_path):
    path = tmp_path / "image.jpg"
    Image.fromarray(quadrants()).save(path, exif=b"Exif\0\0" + b"garbage" * 9)
    assert pixels(path).shape == (16, 24, 3)


def test_bomb_is_refused_from_its_header(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(np.zeros((1, 1, 3), int), 8, claimed_size=(13000, 13000)))
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("decoded"))
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(DataError, match=r"bomb.png.*13000 × 13000"):
        open_image(path)
    path.write_bytes(png(np.zeros((1, 1, 3), int), 8, claimed_size=(2**31 - 1, 2**31 - 1)))
    with pytest.raises(DataError, match=r"bomb.png.*pixels"):
        open_image(path)


def test_the_largest_camera_fits():
    assert images.MAX_PIXELS >= 12000 * 9000


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".bmp"])
def test_truncated_file_is_named(tmp_path, suffix):
    rng = np.random.default_rng(0)
    path = tmp_path / f"half{suffix}"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=f"half{suffix}"):
        open_image(path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, b"\xff\xd8\xff" * 20])
def test_no_image_is_named(tmp_path, content):
    (tmp_path / "odd.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"odd\.jpg"):
        open_image(tmp_path / "odd.jpg")


def test_other_formats_are_not_even_parsed(tmp_path):
    for name, kind in (("a.tiff", "TIFF"), ("b.jpg", "PPM"), ("c.eps", "EPS")):
        Image.fromarray(quadrants()).save(tmp_path / name, kind)
        with pytest.raises(DataError, match="expected one of BMP, GIF, JPEG, PNG, WEBP"):
            open_image(tmp_path / name)


@pytest.mark.parametrize(
    "source",
    [
        "nowhere.png",
        ".",
        None,
        3,
        np.zeros((4, 4, 3), np.float32),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        Image.new("F", (4, 4)),
        Image.new("I", (4, 4)),
    ],
)
def test_what_is_no_image_is_one_clear_error(source):
    with pytest.raises(DataError, match=r"^cannot read image .*\.$"):
        open_image(source)


def test_draft_keeps_twice_the_pixels_and_stays_close(tmp_path):
    big = Image.open(photo("chelsea.png")).resize((1609, 1203), Image.Resampling.BICUBIC)
    plain = Preprocessing(size=(128, 128), resize=144)
    for orientation in (1, 2, 3, 4, 5, 6, 7, 8):
        exif = Image.Exif()
        exif[0x0112] = orientation
        big.save(tmp_path / "big.jpg", quality=90, exif=exif)
        small = open_image(tmp_path / "big.jpg", shorter_side=144)
        assert 2 * 144 <= min(small.size) < 1203 / 2
        exact = to_bytes(tmp_path / "big.jpg", plain).astype(int)
        drafted = to_bytes(tmp_path / "big.jpg", plain, draft=True).astype(int)
        difference = np.abs(exact - drafted)
        assert 0 < difference.mean() < 0.4  # 1.7 if the padded edge were taken for picture
        assert difference.max() <= 4


def tent_matrix(length, new_length):
    """Antialiased bilinear resampling as a matrix, from its definition."""
    scale = length / new_length
    centres = (np.arange(new_length) + 0.5) * scale
    distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / max(scale, 1)
    weights = np.clip(1 - distance, 0, None)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize(
    ("resize", "size", "resized", "start"),
    [  # torchvision: int(resize * longer / shorter), round((length - crop) / 2)
        (256, (224, 224), (256, 384), (16, 80)),
        (259, (224, 224), (259, 389), (18, 82)),
        (232, (200, 231), (232, 348), (16, 58)),
        (None, (96, 200), (96, 200), (0, 0)),
    ],
)
def test_resize_and_crop_by_definition(resize, size, resized, start):
    picture = np.asarray(Image.open(photo("chelsea.png")))  # (300, 451, 3)
    rows, columns = tent_matrix(300, resized[0]), tent_matrix(451, resized[1])
    whole = np.einsum("hy,yxc,wx->hwc", rows, picture.astype(float), columns, optimize=True)
    expected = whole[start[0] : start[0] + size[0], start[1] : start[1] + size[1]]
    got = to_bytes(picture, Preprocessing(size=size, resize=resize))
    assert got.shape == (*size, 3)
    assert np.abs(got - expected).max() <= 1.01  # two roundings, one for each direction


def test_resize_of_portrait_and_landscape_agree():
    picture = np.asarray(Image.open(photo("chelsea.png")))
    plain = Preprocessing(size=(100, 80), resize=120)
    turned = Preprocessing(size=(80, 100), resize=120)
    swapped = to_bytes(np.ascontiguousarray(picture.transpose(1, 0, 2)), turned).transpose(1, 0, 2)
    assert np.abs(to_bytes(picture, plain).astype(int) - swapped).max() <= 1


def test_a_crop_larger_than_the_image_is_padded_black():
    got = to_bytes(np.full((10, 10, 3), 200, np.uint8), Preprocessing(size=(13, 10), resize=10))
    assert got[:, 0, 0].tolist() == [0] + [200] * 10 + [0] * 2


@pytest.mark.parametrize("decoder", ["pillow", "fast"])
@pytest.mark.parametrize("size", [(1, 60_000), (20_000, 10)])
def test_an_image_however_narrow_is_resized_around_what_is_seen_of_it(tmp_path, size, decoder):
    """The whole, of up to 3.9 billion pixels, is not made; what is seen of it is the middle."""
    if decoder == "fast":
        pytest.importorskip("cykooz_resizer")
    along = np.linspace(0, 255, max(size)).astype(np.uint8)
    pixels = np.broadcast_to(along[:, None] if size[0] == 1 else along[None], size[::-1])
    Image.fromarray(np.repeat(pixels[..., None], 3, axis=2)).save(tmp_path / "line.png")
    started = time.process_time()
    seen = to_bytes(tmp_path / "line.png", Preprocessing(), decoder=decoder)
    assert seen.shape == (224, 224, 3)
    assert set(np.unique(seen)) <= {127, 128}
    assert time.process_time() - started < 1


@pytest.mark.parametrize("size", [(300, 20), (20, 300), (451, 300), (1, 90)])
@pytest.mark.parametrize("wanted", [((224, 224), 256), ((64, 96), 70)])
def test_what_is_made_of_a_part_is_cut_from_the_whole(monkeypatch, size, wanted):
    picture = np.asarray(Image.open(photo("chelsea.png")).resize(size))
    whole = to_bytes(picture, Preprocessing(size=wanted[0], resize=wanted[1]))
    monkeypatch.setattr("portnet.data.preprocess.LARGEST_RESIZED", 0)
    part = to_bytes(picture, Preprocessing(size=wanted[0], resize=wanted[1]))
    assert np.abs(part - whole.astype(int)).max() <= 2


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [  # keras.applications' three modes on the same pixel
        (Preprocessing(), (2.249, 0.205, -1.804)),
        (Preprocessing(scale=127.5, mean=(1, 1, 1), std=(1, 1, 1)), (1, 0.004, -1)),
        (
            Preprocessing(color="BGR", scale=1, mean=(103.939, 116.779, 123.68), std=(1, 1, 1)),
            (-103.939, 11.221, 131.32),
        ),
        (Preprocessing(color="GRAY", scale=1, mean=(0,), std=(1,)), (151,)),
    ],
)
def test_normalise_known_values(preprocessing, expected):
    got = normalise(np.array([[[[255, 128, 0]]]], np.uint8), preprocessing)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    assert got.ravel() == pytest.approx(expected, abs=6e-4)


def test_normalise_keeps_images_and_places_apart():
    batch = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
    plain = Preprocessing()
    got = normalise(batch, plain)
    expected = (batch / plain.scale - plain.mean) / plain.std
    assert np.allclose(got, expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_normalise_refuses_floats():
    with pytest.raises(InputError, match=r"float64 of shape \(1, 4, 4, 3\)"):
        normalise(np.zeros((1, 4, 4, 3)), Preprocessing())


@pytest.mark.parametrize(
    "wrong", [{"resize": "big"}, {"resize": -1}, {"resize": 10**9}, {"interpolation": "area"}, {"color": "LAB"}]
)
def test_preprocessing_from_a_hostile_file_is_refused(wrong):
    with pytest.raises(ModelError, match=f"preprocessing: {next(iter(wrong))} got"):
        Preprocessing(**wrong)


class Network:
    def __init__(self, preprocessing):
        self.preprocessing = preprocessing


def test_preprocess_one_and_many(tmp_path):
    Image.fromarray(quadrants()).save(tmp_path / "image.png")
    network = Network(Preprocessing(size=(8, 10), resize=12))
    one = preprocess(network, tmp_path / "image.png")
    many = preprocess(network.preprocessing, [quadrants(), tmp_path / "image.png", Image.fromarray(quadrants())])
    assert one.shape == (1, 3, 8, 10)
    assert np.array_equal(many, np.repeat(one, 3, axis=0))
    assert np.array_equal(preprocess(network, np.stack([quadrants()] * 2)), many[:2])


def test_preprocess_says_what_is_missing():
    with pytest.raises(InputError, match=r"Set model.preprocessing"):
        preprocess(Network(None), quadrants())
    with pytest.raises(InputError, match="got str"):
        preprocess("resnet18", quadrants())
    with pytest.raises(InputError, match="no image"):
        preprocess(Preprocessing(), [])


def test_a_photo_keeps_its_look(tmp_path):
    """The same photo as grey, palette, 16 bits and through JPEG stays the same picture."""
    chelsea = Image.open(photo("chelsea.png"))
    plain = Preprocessing(size=(96, 96), resize=110)
    exact = to_bytes(chelsea, plain).astype(float)
    buffer = io.BytesIO()
    chelsea.save(buffer, "JPEG", quality=95)
    variants = {
        "palette": (chelsea.quantize(256), 3.0),
        "alpha": (chelsea.convert("RGBA"), 0.0),
        "jpeg": (Image.open(buffer), 1.5),
        "inks": (chelsea.convert("CMYK"), 0.5),
    }
    for name, (image, tolerance) in variants.items():
        assert np.abs(to_bytes(image, plain) - exact).mean() <= tolerance, name


def test_one_lazy_pil_image_may_be_read_by_many_threads():
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 255, (300, 200, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG", exif=exif)
    for _ in range(5):
        lazy = Image.open(io.BytesIO(buffer.getvalue()))
        with ThreadPoolExecutor(8) as pool:
            pictures = list(pool.map(open_image, [lazy] * 8))
        assert {picture.size for picture in pictures} == {(300, 200)}
