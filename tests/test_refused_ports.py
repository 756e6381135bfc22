"""What an engine's tensors cannot be is refused with the op that reads or writes it."""

import onnx.parser
import pytest

import portnet
from portnet.errors import UnsupportedError
from portnet.graph.model import Model


@pytest.mark.parametrize("engine", ["keras", "gluon"])
@pytest.mark.parametrize(("kind", "op"), [("string", "StringConcat"), ("seq(float[2])", "SequenceLength")])
def test_an_input_that_is_no_array_names_its_reader(engine, kind, op):
    pytest.importorskip(f"portnet_{engine}")
    inputs = "x, x" if op == "StringConcat" else "x"
    text = f'<ir_version: 8, opset_import: ["" : 20]> g ({kind} x) => (y) {{ [the_reader] y = {op}({inputs}) }}'
    model = Model.from_bytes(onnx.parser.parse_model(text).SerializeToString())
    with pytest.raises(UnsupportedError, match=rf"'x' is read by {op} \(opset \d+\) node 'the_reader'") as caught:
        portnet.engine(engine).lower(model)
    assert (caught.value.op, caught.value.node) == (op, "the_reader")
