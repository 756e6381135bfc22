"""Kernels of dense layers lie as torch's own do: what people save and flatten them with wants them so."""

import numpy as np
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper

from portnet import Model
from portnet.engines import engine


def test_dense_kernels_are_contiguous(tmp_path):
    rng = np.random.default_rng(0)
    kernels = {name: rng.normal(size=shape).astype(np.float32) for name, shape in {"a": (5, 3), "b": (3, 4)}.items()}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="first"),
        helper.make_node("Gemm", ["h", "b"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(array, name) for name, array in kernels.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    native = engine("torch").lower(Model.from_bytes(model.SerializeToString())).native
    assert [module for module in native.modules() if isinstance(module, torch.nn.Linear)]
    assert all(parameter.is_contiguous() for parameter in native.parameters())
    safetensors.torch.save_file(native.state_dict(), tmp_path / "dense.safetensors")
