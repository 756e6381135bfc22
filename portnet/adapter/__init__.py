"""The contract of an engine, on one page.

An engine is a framework that a network is lowered onto. Its adapter is a distribution of its own
(``adapters/<engine>``, package ``portnet_<engine>``) that registers one `Adapter` under the entry point group
``portnet.engines``. The core never imports it uninvited; it imports this module, `portnet.graph`, `portnet.errors`
and its own framework, nothing else.

What an adapter promises:

* `Adapter.lower` walks the **canonical** graph once, in order (`portnet.graph.lowering.Lowering` does the
  walking), and builds the framework's own network. What it cannot express it refuses there, with
  `UnsupportedError`, in one line that names op, opset, attribute and node; never while the network runs.
* The result is **native and trainable**: a Conv is the framework's convolution layer, MatMul and Gemm weights are
  parameters, BatchNormalization is the framework's batch norm, Dropout its dropout. Names come from ONNX names.
  The count of trainable scalars equals `Model.parameter_count`; `Lowered` asserts it.
* Arrays cross the border in **ONNX's layout** (NCHW, OIHW, ...) under **ONNX's names**. What the engine does inside
  (channels last, transposed kernels) nobody outside sees, but in `Lowered.native`.
* `Adapter.write` puts a lowered network into files that the framework's own loader reads, and `Adapter.reload` reads
  them with it. Nothing of PortNet's graph takes part in what a `Reloaded` computes: so a check of it is a check of the
  files.
* `Adapter.capture` goes the other way: from a living network of its framework to a `Model`, in ONNX's layout and under
  the framework's own names, and it returns a `Source` that runs that very network, so that the capture is proved
  against it. What it cannot translate it lists at once.
* `Trainer` does arithmetic, the core decides: order of data, schedule, freezing and metrics come from
  `portnet.finetune`. Two engines given the same `TrainPlan` and the same batches give the same losses.
* An engine that loads TensorFlow calls `before_tensorflow` first, one that works with torch `before_torch`: Triton and
  TensorFlow must be loaded in that order.
* The update rules of `TrainPlan.optimizer` are defined once, in `portnet.adapter.training`.
"""

from portnet.adapter.engine import Adapter, CaptureOptions
from portnet.adapter.files import FileFormat, Reloaded
from portnet.adapter.lowered import Lowered, fits, lowered_of
from portnet.adapter.order import before_tensorflow, before_torch
from portnet.adapter.training import (
    Inputs,
    OptimizerSpec,
    ParameterPlan,
    StepResult,
    Trainer,
    TrainPlan,
    as_inputs,
    pieces,
)
from portnet.formats.captured import Source

__all__ = [
    "Adapter",
    "CaptureOptions",
    "FileFormat",
    "Inputs",
    "Lowered",
    "OptimizerSpec",
    "ParameterPlan",
    "Reloaded",
    "Source",
    "StepResult",
    "TrainPlan",
    "Trainer",
    "as_inputs",
    "before_tensorflow",
    "before_torch",
    "fits",
    "lowered_of",
    "pieces",
]
