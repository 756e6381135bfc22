"""``python -m bench.captured keras:ResNet50 torchvision:resnet50``: capture beside tf2onnx and torch's own exporter.

Prints a table of Markdown, one row a network, each in a process of its own: what the ONNX file of either side keeps,
how far it is from the network that it came from, and how long it took. Networks are untrained, with statistics of
their own (`portnet.testing.enlivened`), at 224 × 224 or the one size that they have.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from bench.process import ROOT, environment
from portnet.adapter import CaptureOptions
from portnet.engines import engine
from portnet.graph.model import Model
from portnet.testing.enlivened import enliven, make_images

PIXELS, MARK = 224, "captured "


@dataclass(frozen=True)
class File:
    """What a side made of a network.

    Attributes:
        norms: nodes of BatchNormalization.
        parameters: numbers that train.
        difference: largest difference from the framework's own output, over its largest output.
        seconds: time of the conversion, imports not counted.
    """

    norms: int
    parameters: int
    difference: float
    seconds: float

    def cells(self, expected: int) -> str:
        """Return the cells of the table."""
        share = f"{100 * self.parameters / expected:.1f}%"
        return f"{self.norms} | {share} | {self.difference:.1e} | {self.seconds:.1f} s"


def main() -> int:
    """Measure the networks that are named."""
    print("| network | BatchNorms, trainable | PortNet: norms | trainable | difference | time ", end="")
    print("| exporter: norms | trainable | difference | time |\n|---|---|---|---|---|---|---|---|---|---|")
    for source in sys.argv[1:]:
        command = [sys.executable, "-m", "bench.captured", "--one", source]
        done = subprocess.run(command, cwd=ROOT, env=environment(None), capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
        if not lines:
            print(f"| `{source}` | failed: {(done.stderr.strip().splitlines() or ['nothing said'])[-1]} |")
            continue
        found = json.loads(lines[-1].removeprefix(MARK))
        ours, theirs = (_cells(found[side], found["parameters"]) for side in ("ours", "theirs"))
        print(f"| `{source}` | {found['norms']}, {found['parameters']:,} | {ours} | {theirs} |", flush=True)
    return 0


def _cells(found: dict[str, Any] | str, expected: int) -> str:
    return f"{found} | | |" if isinstance(found, str) else File(**found).cells(expected)


def one(source: str) -> dict[str, Any]:
    """Capture one network by PortNet and by its framework's usual exporter."""
    is_keras = source.startswith("keras")
    adapter = engine("keras" if is_keras else "torch")
    native = adapter.open(source)
    size = (native.inputs[0].shape[1] if is_keras else None) or PIXELS
    shape = (2, size, size, 3) if is_keras else (2, 3, size, size)
    images = make_images(shape, source)
    enliven(native, shape, source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        expected, export, count, norms = (_keras if is_keras else _torch)(native, images, path)
        theirs = _measured(export, path, images, expected)
        start = time.perf_counter()
        captured, _ = adapter.capture(native, CaptureOptions((images,)))
        spent = time.perf_counter() - start
        captured.model.save(path)
        nchw = images.transpose(0, 3, 1, 2) if is_keras else images
        ours = _file(path, np.ascontiguousarray(nchw), expected, spent)
    theirs = theirs if isinstance(theirs, str) else asdict(theirs)
    return {"norms": norms, "parameters": count, "ours": asdict(ours), "theirs": theirs}


def _keras(native: Any, images: np.ndarray, path: Path) -> tuple[np.ndarray, Callable[[], Any], int, int]:
    import keras
    import tensorflow as tf
    import tf2onnx

    def export() -> None:
        signature = [tf.TensorSpec((None, *images.shape[1:]), tf.float32, name="x")]
        function = tf.function(lambda x: native(x, training=False))
        tf2onnx.convert.from_function(function, input_signature=signature, opset=18, output_path=str(path))

    layers = native._flatten_layers() if hasattr(native, "_flatten_layers") else native.layers
    norms = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)
    count = sum(int(np.prod(w.shape)) for w in native.trainable_weights)
    return np.asarray(native(images, training=False)), export, count, norms


def _torch(native: Any, images: np.ndarray, path: Path) -> tuple[np.ndarray, Callable[[], Any], int, int]:
    import torch

    x = torch.from_numpy(images)

    def export() -> None:
        torch.onnx.export(native, (x,), path, dynamo=True, dynamic_shapes=({0: torch.export.Dim("n")},), verbose=False)

    native.eval()
    with torch.no_grad():
        expected = native(x).numpy()
    norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in native.modules())
    return expected, export, sum(p.numel() for p in native.parameters()), norms


def _measured(export: Callable[[], Any], path: Path, images: np.ndarray, expected: np.ndarray) -> File | str:
    """Return what an exporter made, or why there is nothing that runs."""
    start = time.perf_counter()
    try:
        export()
        return _file(path, images, expected, time.perf_counter() - start)
    except Exception as error:  # it and onnxruntime raise dozens of classes
        return "no file that runs: " + " ".join(str(error).split()).replace("|", "/")[:120]


def _file(path: Path, images: np.ndarray, expected: np.ndarray, seconds: float) -> File:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: images})[0]
    model = Model.load(path)
    norms = sum(node.op_type == "BatchNormalization" for node in model.ir.graph)
    difference = float(np.abs(got - expected).max() / np.abs(expected).max())
    return File(norms, model.parameter_count, difference, seconds)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        warnings.simplefilter("ignore")
        print(MARK + json.dumps(one(sys.argv[2])))
    else:
        sys.exit(main())
