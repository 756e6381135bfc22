"""Loads files of TensorFlow Lite, in a process of its own: a damaged one can end the process that loads it.

Run as a script, which imports nothing of PortNet. Each line that it reads is a request in JSON, each that it writes the
answer; see `portnet_keras.trial`.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

MEMORY = 8 << 30


def convert(request: dict[str, Any]) -> dict[str, Any]:
    """Run a file once on zeros, then write it as ONNX by tf2onnx."""
    interpreter = tf.lite.Interpreter(model_path=request["path"])
    interpreter.allocate_tensors()
    given, made = interpreter.get_input_details(), interpreter.get_output_details()
    for each in given:
        interpreter.set_tensor(each["index"], np.zeros(each["shape"], each["dtype"]))
    interpreter.invoke()
    import tf2onnx.convert

    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    images = [[each["name"] for each in side if len(each["shape"]) == 4] for side in (given, made)]
    first, last = images if request["moved"] else (None, None)
    proto, _ = tf2onnx.convert.from_tflite(
        request["path"], opset=request["opset"], inputs_as_nchw=first, outputs_as_nchw=last
    )
    Path(request["to"]).write_bytes(proto.SerializeToString())
    return {}


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run a file on arrays, whose sizes its inputs are given."""
    interpreter = tf.lite.Interpreter(model_path=request["path"])
    given = interpreter.get_input_details()
    with np.load(request["given"]) as stored:
        arrays = [stored[f"x{i}"] for i in range(len(given))]
    for each, array in zip(given, arrays, strict=True):
        interpreter.resize_tensor_input(each["index"], array.shape)
    interpreter.allocate_tensors()
    for each, array in zip(given, arrays, strict=True):
        interpreter.set_tensor(each["index"], array.astype(each["dtype"]))
    interpreter.invoke()
    results = [interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()]
    np.savez(request["to"], **{f"y{i}": result for i, result in enumerate(results)})
    return {"count": len(results)}


def main() -> None:
    """Answer requests until there are no more."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if _LINUX else 0
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if used:
        limit = used + MEMORY if hard == resource.RLIM_INFINITY else min(used + MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    print("{}", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"convert": convert, "run": run}[request["do"]](request)
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            answer = {"error": f"{type(error).__name__}: {text}"}
        print(json.dumps(answer), flush=True)


_LINUX = sys.platform == "linux"

if __name__ == "__main__":
    main()
