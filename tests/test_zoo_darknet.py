"""Darknet's networks of the zoo compute what OpenCV computes of Darknet's own two files."""

import struct

import numpy as np
import pytest
import test_formats_darknet as files

from portnet import zoo
from portnet.formats import darknet
from portnet.formats.opencv import open_with_opencv
from portnet.runtime.session import Session

CFG = {"darknet19": files.darknet19, "darknet53": files.darknet53}
# a file's order of what a convolution has
VECTORS = ("bias", "weight", "running_mean", "running_var")


def weights_file(path, arrays):
    """Write arrays as Darknet does: biases, scales, means and variances before each kernel."""
    with path.open("wb") as file:
        file.write(struct.pack("<iiiQ", 0, 2, 0, 0))
        for name in [key for key in arrays if key.startswith("conv_") and key.endswith(".weight")]:
            layer = name.removesuffix(".weight")
            norm = layer.replace("conv", "bn")
            vectors = [f"{norm}.{key}" for key in VECTORS] if f"{norm}.bias" in arrays else [f"{layer}.bias"]
            for key in [*vectors, name]:
                arrays[key].astype("<f4").tofile(file)


@pytest.mark.parametrize("name", CFG)
def test_equals_opencv_on_darknets_files(name, tmp_path):
    model = zoo.load(name, None, size=64)
    generator = np.random.default_rng(1)
    moved = {k: a + generator.normal(0, 0.1, a.shape).astype(np.float32)
             for k, a in model.weights().items() if k.endswith(("bias", "running_mean"))}  # fmt: skip
    model = model.with_weights(moved)
    paths = tmp_path / "net.cfg", tmp_path / "net.weights"
    paths[0].write_text(CFG[name](64))
    weights_file(paths[1], model.weights())
    images = generator.normal(0, 1, (2, 3, 64, 64)).astype(np.float32)
    [logits] = Session(model).run({"input": images}).values()
    [expected] = open_with_opencv("darknet", *paths).run({"data": images}).values()
    odds = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), expected, rtol=2e-3, atol=1e-6)
    # and the arrays that the reader finds bear the same names
    assert darknet.read(*paths).model.weights().keys() >= model.weights().keys()
