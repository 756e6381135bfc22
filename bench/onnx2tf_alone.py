"""Times onnx2tf in its own environment, which has no PortNet: ``python onnx2tf_alone.py FILE.onnx ROUNDS``."""

import json
import sys
import time

import onnx2tf


def seconds(path: str) -> float:
    """Time one conversion to a tf_keras network in memory; no files are written."""
    start = time.perf_counter()
    onnx2tf.convert(input_onnx_file_path=path, disable_model_save=True, non_verbose=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    print("\n" + json.dumps([seconds(sys.argv[1]) for _ in range(int(sys.argv[2]))]))
