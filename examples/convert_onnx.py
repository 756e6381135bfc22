"""Take an .onnx file into every installed engine, native and trainable, each proved against onnxruntime.

python examples/convert_onnx.py model.onnx
"""

import sys

import portnet
from portnet.engines import installed


def main(path: str) -> None:
    """Convert, and print what came of it."""
    model = portnet.Model.load(path)
    print(model)
    for engine in installed():
        lowered = portnet.engine(engine).lower(model)
        report = portnet.check(lowered, model)
        kind = type(lowered.native).__name__
        print(f"{engine}: {kind}, {lowered.trainable_count:,} trainable, largest difference {report.max_abs:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
