"""Damages a file of TensorFlow Lite and captures it: ``python fuzz_tflite.py SEED COUNT``.

Prints one line a file that ended otherwise than in a model or a one-line PortNetError, and exits 1 if there was one.
"""

from __future__ import annotations

import os
import random
import resource
import struct
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras
import numpy as np
import tensorflow as tf
from keras import layers
from portnet_keras import Engine

from portnet.adapter import CaptureOptions, Source
from portnet.errors import PortNetError
from portnet.formats.captured import Captured
from portnet.testing.watch import ending

SECONDS = 10
MEMORY = 4 << 30
NUMBERS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, 3, 1 << 20)


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Flip or overwrite bytes and words, which offsets, lengths, sizes and types are; cut, insert, repeat."""
    buffer = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 8))):
        at = draw.randrange(8, len(buffer) - 4)
        match draw.randrange(6):
            case 0:
                buffer[at] = draw.randrange(256)
            case 1 | 2:
                struct.pack_into("<I", buffer, at & ~3, draw.choice(NUMBERS))
            case 3:
                struct.pack_into("<I", buffer, at & ~3, draw.randrange(len(buffer)))
            case 4:
                buffer[at:at] = draw.randbytes(draw.randrange(1, 9))
            case 5:
                del buffer[at : draw.choice((at + 4, len(buffer)))]
        if len(buffer) < 64:
            break
    return bytes(buffer)


def small() -> bytes:
    """Return a small network in TensorFlow Lite's form."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3), batch_size=1)
    y = layers.DepthwiseConv2D(3, padding="same")(layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(x))
    y = layers.Dense(5, activation="softmax")(layers.GlobalAveragePooling2D()(y))
    return tf.lite.TFLiteConverter.from_keras_model(keras.Model(x, y)).convert()


def capture(path: Path) -> str:
    """Return "" where a file ends in a model or a one-line PortNetError, else what happened."""
    made = []
    problem = ending(lambda: made.append(Engine().capture(Engine().open(str(path)), CaptureOptions())), SECONDS)
    return problem or (ending(lambda: run(*made[0]), SECONDS, (PortNetError, InterpreterError)) if made else "")


def run(captured: Captured, source: Source) -> None:
    """Run a file on zeros; what the interpreter itself raises of what was damaged is an `InterpreterError`."""
    (port,) = captured.model.inputs
    try:
        source.run({port.name: np.zeros([n if isinstance(n, int) else 1 for n in port.shape], port.dtype)})
    except (ValueError, RuntimeError) as error:
        if "interpreter" not in traceback.format_exc():
            raise
        raise InterpreterError(str(error)) from error


class InterpreterError(Exception):
    """Raised by TensorFlow Lite."""


def main(seed: int, count: int) -> int:
    """Capture ``count`` damaged files; return how many ended badly."""
    warnings.simplefilter("ignore")
    data, bad = small(), 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "small.tflite")
        path.write_bytes(data)
        problem = capture(path)
        assert not problem, problem
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        for number in range(count):
            path.write_bytes(mutate(data, random.Random(seed * 1_000_003 + number)))
            problem = capture(path)
            if problem:
                bad += 1
                print(f"file {number} of seed {seed}: {problem}", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])) > 0)
