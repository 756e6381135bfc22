"""Summaries and drawings of networks."""

import functools
import itertools
import json
import xml.etree.ElementTree as ET

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from typer.testing import CliRunner

from portnet import zoo
from portnet.cli.app import app
from portnet.drawing.blocks import diagram
from portnet.drawing.columns import cut_points, split
from portnet.drawing.layout import layout
from portnet.drawing.network import plot_network
from portnet.drawing.sheet import Sheet
from portnet.drawing.text import fit, width
from portnet.errors import InputError, OutputError, UnknownNameError
from portnet.graph.model import Model
from portnet.graph.summary import summarize

# billions, from the ``_ops`` of torchvision's weights (docs.pytorch.org/vision/stable/models.html, column GFLOPS)
PUBLISHED = {
    "mobilenet_v2": 0.301,
    "resnet18": 1.814,
    "resnet50": 4.089,
    "squeezenet1_0": 0.819,
    "squeezenet1_1": 0.349,
}


@functools.cache
def untrained(name):
    return zoo.load(name, weights=None)


def model_of(nodes, inputs, outputs, weights=None, opset=17):
    """Return a model; inputs and outputs are shapes by name, weights are shapes of ones by name."""
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in each.items()]
        for each in (inputs, outputs)
    ]
    arrays = [onnx.numpy_helper.from_array(np.ones(s, np.float32), name) for name, s in (weights or {}).items()]
    graph = helper.make_graph(nodes, "small", *ports, arrays)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return Model.from_bytes(proto.SerializeToString())


@pytest.mark.parametrize("name", PUBLISHED)
def test_macs_are_the_published_ones(name):
    summary = summarize(untrained(name))
    assert round(summary.macs / 1e9, 3) == PUBLISHED[name]
    assert summary.parameters == zoo.info(name).parameters
    assert summary.rows[-1].shape == ("N", 1000)


@pytest.mark.parametrize(
    ("node", "x", "weights", "y", "macs"),
    [
        # each output element: channels of a group × window
        (helper.make_node("Conv", ["x", "w"], ["y"], group=2), [2, 4, 9, 9], {"w": [6, 2, 3, 3]}, 4, 6 * 49 * 18),
        # each input element: output channels × window
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"]), [2, 4, 5, 5], {"w": [4, 3, 2, 2]}, 4, 4 * 25 * 12),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), [2, 8], {"w": [5, 8]}, 2, 8 * 5),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), [2, 3, 8], {"w": [8, 5]}, 3, 3 * 8 * 5),
        (helper.make_node("Einsum", ["x", "w"], ["y"], equation="nij,jk->nik"), [2, 3, 8], {"w": [8, 5]}, 3, 3 * 8 * 5),
        (helper.make_node("Einsum", ["x", "w"], ["y"], equation="...j,jk->...k"), [2, 8], {"w": [8, 5]}, 2, None),
        (helper.make_node("Relu", ["x"], ["y"]), [2, 8], {}, 2, 0),
        # 4 gates × 6 units × (3 inputs + 6 units), 7 steps
        (helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=6, layout=1), [2, 7, 3],
         {"w": [1, 24, 3], "r": [1, 24, 6]}, 4, 7 * 24 * 9),
        (helper.make_node("Mystery", ["x"], ["y"], domain="elsewhere"), [2, 8], {}, 2, None),
    ],
    ids=lambda value: value.op_type if hasattr(value, "op_type") else "",
)  # fmt: skip
def test_macs_of_one_item_by_hand(node, x, weights, y, macs):
    model = model_of([node], {"x": ["N", *x[1:]]}, {"y": [None] * y}, weights)
    assert summarize(model).rows[1].macs == macs
    assert summarize(model).macs == macs


def test_shapes_tell_the_batch_from_numbers():
    nodes = [
        helper.make_node("Constant", [], ["four"], value_ints=[-1, 4]),
        helper.make_node("Reshape", ["x", "four"], ["y"]),
        helper.make_node("Transpose", ["y"], ["z"], perm=[1, 0]),
    ]
    model = model_of(nodes, {"x": ["N", 8]}, {"z": [None, None]})
    assert [row.shape for row in summarize(model).rows] == [("N", 8), (2,), ("2N", 4), (4, "2N")]
    fixed = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": [3, 8]}, {"y": [3, 8]})
    assert [row.shape for row in summarize(fixed).rows] == [(3, 8), (3, 8)]


def test_a_new_head_and_a_policy_on_the_command_line():
    """724 thousand parameters for three classes: the published count of a SqueezeNet with a new head."""
    command = ["summary", "squeezenet1_1", "--classes", "3", "--freeze", "backbone", "--json"]
    found = json.loads(CliRunner().invoke(app, command).stdout)
    assert found["parameters"] == 724_035
    assert found["trainable"] == 3 * 512 + 3
    assert {layer["name"] for layer in found["layers"] if layer["trainable"]} == {"head.conv"}
    text = CliRunner().invoke(app, ["summary", "squeezenet1_1"]).stdout
    assert "N×64×111×111" in text
    assert "0.35 GMACs" in text


# ---- layout


def random_graph(seed):
    """Return the sources of each of 40 boxes, and their widths."""
    random = np.random.default_rng(seed)
    sources = [
        sorted(set(random.integers(max(0, i - 6), i, random.integers(1, 4)).tolist())) if i else [] for i in range(40)
    ]
    return random.uniform(40, 120, 40).tolist(), sources


@pytest.mark.parametrize("seed", range(5))
def test_boxes_do_not_overlap_and_arrows_point_down(seed):
    widths, sources = random_graph(seed)
    found = layout(widths, sources, gap=20)
    for a in range(40):
        for b in range(a):
            if found.rank[a] == found.rank[b]:
                assert abs(found.x[a] - found.x[b]) >= (widths[a] + widths[b]) / 2 + 19.9
    assert {(edge.source, edge.target) for edge in found.edges} == {
        (s, t) for t, each in enumerate(sources) for s in each
    }
    for edge in found.edges:
        assert found.rank[edge.source] + len(edge.lanes) + 1 == found.rank[edge.target]
    # no arrow passes behind a box
    for edge in found.edges:
        for rank, x in enumerate(edge.lanes, start=found.rank[edge.source] + 1):
            beside = [i for i in range(40) if found.rank[i] == rank]
            assert all(abs(x - found.x[i]) > widths[i] / 2 for i in beside)
    assert layout(widths, sources, gap=20) == found


def test_branches_stand_side_by_side_around_the_trunk():
    found = layout([100] * 5, [[], [0], [0], [1, 2], [3]])
    assert found.rank == (0, 1, 1, 2, 3)
    assert found.x[0] == pytest.approx(found.x[3], abs=0.5)
    assert found.x[1] + found.x[2] == pytest.approx(2 * found.x[0], abs=0.5)


def test_a_shortcut_leaves_the_trunk_straight():
    found = layout([100] * 5, [[], [0], [1], [0, 2], [3]])
    assert max(found.x) - min(found.x) < 0.5
    (shortcut,) = [edge for edge in found.edges if edge.lanes]
    assert len(set(shortcut.lanes)) == 1
    assert shortcut.lanes[0] > found.x[0] + 50


# ---- the drawing


def blocks_of(name):
    model = untrained(name)
    return diagram(model, summarize(model))


def test_a_fire_module_is_four_boxes_and_a_residual_block_keeps_its_shortcut():
    fire = [block for block in blocks_of("squeezenet1_1") if block.stage == "fire2"]
    assert [block.title for block in fire] == [
        "1×1 conv, 16 · ReLU",
        "1×1 conv, 64 · ReLU",
        "3×3 conv, 64 · ReLU",
        "concat",
    ]
    assert [block.shape for block in fire] == ["16×55×55", "64×55×55", "64×55×55", "128×55×55"]
    residual = blocks_of("resnet18")
    adds = [block for block in residual if block.name.endswith(".add")]
    assert len(adds) == 8
    assert all(len(block.sources) == 2 for block in adds)
    assert "3×3 depthwise conv, 32 · BN · ReLU6" in {block.title for block in blocks_of("mobilenet_v2")}


def test_every_layer_is_in_the_drawing_once():
    model = untrained("resnet18")
    for every_layer in (False, True):
        found = diagram(model, summarize(model), every_layer=every_layer)
        assert sorted(layer.index for block in found for layer in block.layers) == list(range(1, 71))
    assert len(found) == 71  # each its own, and the output


def test_columns_are_cut_where_one_tensor_passes():
    blocks = blocks_of("squeezenet1_1")
    columns = split(blocks, 3)
    assert sorted(index for column in columns for index in column) == list(range(len(blocks)))
    for before, after in itertools.pairwise(columns):
        crossing = {s for index in after for s in blocks[index].sources if s not in after}
        assert len(crossing) == 1
        assert crossing <= set(before)
    assert not any(inside for rank, inside in cut_points(blocks) if rank in (0, 2))  # after the input, after conv1
    for count in (0, 99):
        with pytest.raises(InputError, match="columns"):
            split(blocks, count)


@pytest.mark.parametrize("columns", [None, 1, 4])
def test_the_drawing_is_one_and_the_same_and_inside_its_sheet(tmp_path, columns):
    model = untrained("resnet18")
    one, two = (plot_network(model, tmp_path / name, columns=columns).read_bytes() for name in ("a.svg", "b.svg"))
    assert one == two
    root = ET.fromstring(one)
    assert float(root.get("width")) > 0
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        if rect.get("x"):
            assert float(rect.get("x")) >= 0
            assert float(rect.get("x")) + float(rect.get("width")) <= float(root.get("width"))
            assert float(rect.get("y")) + float(rect.get("height")) <= float(root.get("height"))
    sheet = Sheet(blocks_of("resnet18"), columns)
    assert columns is None or len(sheet.columns) == columns


def test_names_from_a_file_are_text_in_the_drawing(tmp_path):
    hostile = '</text><script>alert("1")</script>\x00\x1b&'
    node = helper.make_node("Relu", ["x"], ["y"], name=hostile)
    path = plot_network(model_of([node], {"x": ["N", 8]}, {"y": ["N", 8]}), tmp_path / "a.svg")
    root = ET.parse(path).getroot()
    assert not [element for element in root.iter() if "script" in element.tag]
    assert any("<script>" in (title.text or "") for title in root.iter("{http://www.w3.org/2000/svg}title"))


def test_a_drawing_as_png_and_what_cannot_be_drawn(tmp_path):
    model = untrained("squeezenet1_1")
    with Image.open(plot_network(model, tmp_path / "a.png")) as picture:
        assert picture.width > 1000
        assert len(picture.getcolors(1 << 24)) > 20
    with pytest.raises(UnknownNameError, match="pdf"):
        plot_network(model, tmp_path / "a.pdf")
    with pytest.raises(OutputError):
        plot_network(model, tmp_path / "nowhere" / "a.svg")
    result = CliRunner().invoke(app, ["plot", "squeezenet1_1", "-o", str(tmp_path / "b.svg"), "--layers"])
    assert result.exit_code == 0
    assert "features.3.squeeze_activation" in (tmp_path / "b.svg").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.svg"}


def test_text_is_shortened_to_its_room():
    assert fit("features.3.squeeze", 10, 500) == "features.3.squeeze"
    for keep in ("start", "end"):
        short = fit("features.3.squeeze_activation", 10, 60, keep=keep)
        assert "…" in short
        assert width(short, 10) <= 60
    assert fit("features.3.squeeze_activation", 10, 60).endswith("activation"[-3:])


def test_no_title_of_a_drawing_is_cut_for_a_fraction_of_a_pixel(tmp_path):
    path = plot_network(zoo.load("resnet50", weights=None), tmp_path / "graph.svg")
    assert "· BN · ReLU</text>" in path.read_text()
    assert "…</text>" not in path.read_text()
