"""The lowered network as a GraphModule: its graph comes late, and everything that torch does with one works."""

from __future__ import annotations

import copy
import gc
import io
import linecache
import pickle
import weakref

import numpy as np
import pytest
import torch
from onnx import helper
from torch import fx

from portnet import zoo


@pytest.fixture
def native(engine):
    return engine.lower(zoo.load("squeezenet1_1", weights=None, size=64)).native.eval()


def saved(native):
    file = io.BytesIO()
    torch.save(native, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def recompiled(native):
    native.recompile()
    return native


WAYS = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda native: pickle.loads(pickle.dumps(native)),
    "torch.save": saved,
    "symbolic_trace": fx.symbolic_trace,
    "Interpreter": lambda native: fx.Interpreter(native).run,
    "Transformer": lambda native: fx.Transformer(native).transform(),
    "recompile": recompiled,
    "graph set anew": lambda native: fx.GraphModule(native, native.graph),
    "jit.trace": lambda native: torch.jit.trace(native, torch.zeros(1, 3, 64, 64)),
    "jit.script": torch.jit.script,
    "compile": lambda native: torch.compile(native, backend="eager", fullgraph=True),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", WAYS)
def test_what_torch_makes_of_it_computes_the_same(native, way):
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = native(x)
        torch.testing.assert_close(WAYS[way](native)(x), before)
        torch.testing.assert_close(native(x), before)


def test_graph_is_made_when_asked_for(native):
    native(torch.zeros(1, 3, 64, 64))
    assert "_graph" not in vars(native)
    names = [node.name for node in native.graph.nodes if node.op == "call_module"]
    assert names[:2] == ["features_0", "features_3_squeeze"]
    assert native.graph is native.graph
    assert native.graph.owning_module is native


def test_changed_graph_runs_once_it_is_compiled(native):
    x = torch.randn(2, 3, 64, 64)
    before = native(x)
    output = next(node for node in native.graph.nodes if node.op == "output")
    with native.graph.inserting_before(output):
        output.args = (native.graph.call_function(torch.neg, output.args),)
    torch.testing.assert_close(native(x), before)
    native.recompile()
    torch.testing.assert_close(native(x), -before)


def test_forward_frees_what_nobody_reads_any_more(engine, build):
    nodes = [
        helper.make_node("Exp", ["x"], ["a"], "first"),
        helper.make_node("Sin", ["a"], ["b"]),
        helper.make_node("Cos", ["a"], ["c"]),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("Exp", ["d"], ["logits"]),
    ]
    native = engine.lower(build(nodes, {"x": ["n", 3]}, {})).native
    alive: list[weakref.ref] = []
    counts = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            counts.append(sum(each() is not None for each in alive))
            result = super().__torch_function__(function, types, args, kwargs)
            if isinstance(result, torch.Tensor):
                alive.append(weakref.ref(result))
            return result

    x = torch.zeros(2, 3).as_subclass(Watched)
    counts.clear(), alive.clear()
    native(x)
    assert counts == [0, 1, 2, 2, 1]  # before exp, sin, cos, add and exp


def test_source_is_at_hand_as_long_as_the_network_lives(engine, build):
    native = engine.lower(build([helper.make_node("Exp", ["x"], ["logits"])], {"x": [3]}, {})).native
    file = native.forward.__code__.co_filename
    assert linecache.getlines(file) == ["def forward(self, x):\n", "    x = exp(x)\n", "    return x\n"]
    with pytest.raises(TypeError):
        native("no tensor")
    del native
    gc.collect()
    assert file not in linecache.cache


def test_names_of_inputs_and_layers_can_be_anything(engine, build):
    names = ["self", "getattr", "forward", "x0", "exp", "add", "relu"]
    nodes = [helper.make_node("Exp", [name], [f"e{place}"], name) for place, name in enumerate(names)]
    nodes += [helper.make_node("Sum", [f"e{place}" for place in range(len(names))], ["logits"], "x1")]
    lowered = engine.lower(build(nodes, {name: [2] for name in names}, {}))
    arrays = [np.full(2, number, np.float32) for number in range(len(names))]
    expected = sum(map(np.exp, arrays))
    np.testing.assert_allclose(lowered.predict(*arrays), expected, rtol=1e-6)
    again = recompiled(lowered.native)(*map(torch.from_numpy, arrays))
    np.testing.assert_allclose(again.numpy(), expected, rtol=1e-6)
