"""Generated source: it computes what the standard says, reads as people write, trains, and holds nothing hostile."""

import re

import numpy as np
import onnx
import onnx.reference
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from portnet_torch.copied import Copied
from portnet_torch.functional import sequence, shapes
from portnet_torch.save import reload, write
from portnet_torch.source import network_source

from portnet import Model, zoo
from portnet.engines import engine
from portnet.errors import UnsupportedError
from portnet.testing.cases import find_case
from portnet.testing.compare import difference


def _load(folder):
    source = (folder / "model.py").read_text()
    space = {"__file__": str(folder / "model.py"), "__name__": "model"}
    exec(compile(source, "model.py", "exec"), space)
    return source, space


# control flow with bodies of its own, layers with strange arguments, constants, strings, functions of every kind
CASES = [
    *("test_loop11", "test_loop16_seq_none", "test_if", "test_scan9_sum", "test_lstm_with_peepholes"),
    *("test_convtranspose_dilations", "test_resize_upsample_sizes_nearest", "test_nonmaxsuppression_suppress_by_IOU"),
    *("test_slice_neg_steps", "test_quantizelinear_axis", "test_string_split_basic", "test_cast_FLOAT_to_FLOAT8E5M2"),
    *("test_ai_onnx_ml_tree_ensemble_set_membership", "test_einsum_batch_matmul", "test_Conv2d_groups"),
    *("test_PReLU_2d", "test_gru_batchwise"),
]


@pytest.mark.parametrize("name", CASES)
def test_source_computes_what_the_standard_expects(name, tmp_path):
    case = find_case(name)
    model, data_sets = case.load()
    lowered = engine("torch").lower(Model.from_bytes(model.SerializeToString()))
    write(lowered, tmp_path, "code")
    source, space = _load(tmp_path)
    assert not re.search(r"(import|from) (portnet|safetensors)", source)
    network = space["load"]()
    for inputs, expected in data_sets:
        ports = lowered.model.inputs
        fed = dict(zip((port.name for port in ports), inputs, strict=True))
        with torch.inference_mode():
            got = lowered.named(network(*(lowered.tensor(port, fed) for port in ports)))
        assert not difference(list(got.values()), expected, case.rtol, case.atol)


def test_source_reads_like_a_network_someone_wrote(tmp_path):
    lowered = engine("torch").lower(zoo.load("squeezenet1_1", weights=None, size=64))
    write(lowered, tmp_path, "code")
    source, space = _load(tmp_path)
    assert '"squeeze": nn.Conv2d(64, 16, 1),' in source
    assert '"expand3x3": nn.Conv2d(16, 64, 3, padding=1),' in source
    assert '        x = self.features["3"].squeeze(x)\n' in source
    assert "        x = torch.cat([features_3_expand1x1_activation, x], 1)\n" in source
    assert max(map(len, source.splitlines())) <= 120
    network = space["load"]()
    assert list(network.state_dict()) == list(lowered.native.state_dict())
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == lowered.model.parameter_count


def test_its_parameters_train(tmp_path):
    lowered = engine("torch").lower(zoo.load("squeezenet1_1", weights=None, size=64))
    write(lowered, tmp_path, "code")
    network = _load(tmp_path)[1]["load"]().train()
    network(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())


def _sum(a, b, weight, graph, node):
    """MatMul and Add under any names."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in (a, b, "out")]
    nodes = [helper.make_node("MatMul", [a, weight], ["h"], name=node), helper.make_node("Add", ["h", b], ["out"])]
    weights = [numpy_helper.from_array(np.eye(4, dtype=np.float32), weight)]
    graph = helper.make_graph(nodes, graph, ports[:2], ports[2:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


NAMES = [
    ("a.b", "a_b", "w", "g", "n"),
    ("输入", "输出", "权重", "图", "层"),
    ("x²", "x", "keys", "class", "items"),
    ("torch", "self", "F.weight", "Model", "load"),
    ('"""', "\n\nraise SystemExit", 'w"""\n', '"""\nraise SystemExit\n"""', "n\n'\"\\"),
]


@pytest.mark.parametrize("names", NAMES)
def test_names_of_any_kind_stay_names(names, tmp_path):
    lowered = engine("torch").lower(Model.from_bytes(_sum(*names).SerializeToString()))
    write(lowered, tmp_path, "code")
    x = torch.rand(2, 4)
    assert torch.equal(_load(tmp_path)[1]["load"]()(x, x), x + x)


def test_functions_of_one_name_are_told_apart():
    copied = Copied([shapes.slice_, sequence.split, shapes.split_evenly, sequence.concat, _concat], {"split"})
    names = [copied.name(f) for f in (sequence.split, sequence.concat, _concat)]
    assert len({*names, "split"}) == 4
    space = {"torch": torch, "Tensor": torch.Tensor, "Any": object}
    exec("from __future__ import annotations\n" + "\n".join(copied.imports()) + "\n" + copied.text(), space)
    assert space[names[2]]() == "mine"


def _concat():
    return _WHOSE


_concat.__name__ = "concat"
_WHOSE = "mine"
concat = _concat


def test_a_network_that_cannot_be_written_is_refused():
    lowered = engine("torch").lower(zoo.load("squeezenet1_1", weights=None, size=64))
    node = next(node for node in lowered.native.graph.nodes if node.op == "call_function")
    node.target = onnx.load
    with pytest.raises(UnsupportedError, match="cannot write a call"):
        network_source(lowered, "weights.safetensors")


def test_a_python_file_is_named_by_the_user(tmp_path):
    lowered = engine("torch").lower(Model.from_bytes(_sum("a", "b", "w", "g", "n").SerializeToString()))
    files = write(lowered, tmp_path / "net.py", "code")
    assert [file.name for file in files] == ["net.py", "net.safetensors"]
    assert '"net.safetensors"' in files[0].read_text()


def _volumes():
    """Return a convolution whose result is looked at as five axes, with a parameter and a constant of as many."""
    rng = np.random.default_rng(0)
    grid = numpy_helper.from_array(rng.normal(size=(1, 2, 2, 1, 1)).astype(np.float32))
    arrays = {"w": rng.normal(size=(4, 3, 3, 3)), "v": rng.normal(size=(1, 2, 2, 4, 4))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv"),
        helper.make_node("Constant", [], ["shape"], value_ints=[-1, 2, 2, 4, 4]),
        helper.make_node("Constant", [], ["grid"], value=grid),
        helper.make_node("Reshape", ["c", "shape"], ["r"], name="parts"),
        helper.make_node("Where", ["mask", "r", "grid"], ["m"], name="scale"),
        helper.make_node("Add", ["m", "v"], ["y"], name="place"),
    ]
    graph = helper.make_graph(
        nodes,
        "volumes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 2, 4, 4])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
        + [numpy_helper.from_array(rng.random((1, 2, 1, 4, 1)) < 0.5, "mask")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("form", ["code", "safetensors", "pt2"])
def test_images_and_tensors_of_five_axes_in_one_network(form, tmp_path):
    lowered = engine("torch").lower(Model.from_bytes(_volumes().SerializeToString()))
    path = tmp_path / f"net{'' if form == 'code' else '.' + form}"
    write(lowered, path, form)
    x = np.random.default_rng(1).normal(size=(3, 3, 6, 6)).astype(np.float32)
    expected = onnx.reference.ReferenceEvaluator(_volumes()).run(None, {"x": x})[0]
    np.testing.assert_allclose(reload(lowered, path, form).run({"x": x})["y"], expected, atol=1e-5)
