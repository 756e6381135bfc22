"""The snippets of docs/without-portnet.md, run as they stand and without PortNet, against what PortNet says."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import portnet
from portnet.conversion import convert_to_file
from portnet.graph.metadata import Preprocessing

SNIPPETS = re.findall(r"```python\n(.*?)```", Path("docs/without-portnet.md").read_text(), re.S)
BAN = "import sys\nsys.modules['portnet'] = None\n"


@pytest.fixture(scope="module")
def model():
    """A network whose classes are far apart for noise, in BGR and with an uneven preprocessing."""
    network = portnet.zoo.load("squeezenet1_1", weights=None, size=64)
    network.labels = [f"name {i}" for i in range(1000)]
    network.preprocessing = Preprocessing((64, 64), None, color="BGR", mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1))
    return network


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("without")
    model.save(path / "pets.onnx")
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 255, (90, 70, 3)).astype(np.uint8)
    Image.fromarray(pixels).resize((140, 180)).save(path / "cat.jpg", exif=exif, quality=95)
    return path


def run(folder, snippet):
    command = [sys.executable, "-c", BAN + snippet]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("resize", [None, 80])
def test_onnxruntime_by_hand(model, folder, resize):
    changed = model.copy()
    changed.preprocessing = Preprocessing((64, 64), resize, color="BGR", mean=(0.1, 0.2, 0.3), std=(0.3, 0.2, 0.1))
    changed.save(folder / "pets.onnx")
    assert run(folder, SNIPPETS[0]) == portnet.load(changed).predict(folder / "cat.jpg").labels
    expected = portnet.preprocess(changed, folder / "cat.jpg")
    assert np.abs(np.load(folder / "x.npy") - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("engine", "number", "outputs"),
    [
        ("torch", 1, {"pets.pt2": None, "pets_torch": "code"}),
        ("keras", 2, {"pets.keras": None, "pets_saved": None, "pets.tflite": None}),
        ("gluon", 3, {"pets": None}),
    ],
)
def test_converted_files_by_their_frameworks(model, folder, engine, number, outputs):
    x = np.random.default_rng(1).normal(size=(1, 3, 64, 64)).astype(np.float32)
    np.save(folder / "x.npy", x)
    for name, form in outputs.items():
        convert_to_file(model, to=engine, output=folder / name, form=form)
    expected = str(portnet.load(model).logits(x)[0].argmax())
    assert run(folder, SNIPPETS[number]) == [expected] * len(outputs)
