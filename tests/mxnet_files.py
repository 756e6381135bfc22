"""Writes MXNet's pair of files, in the forms of MXNet 0.8, 0.11 and 1.9, without MXNet."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

EDITIONS = ("0.8", "0.11", "1.9")
IMAGE = (2, 3, 10, 9)

# (operator, name, parameters, inputs by name; "name#1" is a second output); other names are variables
NETWORK = (
    ("Convolution", "conv1", {"kernel": "(3, 3)", "num_filter": "6", "pad": "(1, 1)", "no_bias": "True"},
     ("data", "conv1_weight")),
    ("BatchNorm", "bn1", {"eps": "0.001", "fix_gamma": "False"}, ("conv1", "bn1_gamma", "bn1_beta")),
    ("Activation", "relu1", {"act_type": "relu"}, ("bn1",)),
    ("Pooling", "pool1", {"kernel": "(2, 2)", "pool_type": "max", "stride": "(2, 2)"}, ("relu1",)),
    ("SliceChannel", "halves", {"num_outputs": "2"}, ("pool1",)),
    ("LeakyReLU", "leaky", {"act_type": "leaky", "slope": "0.1"}, ("halves#1",)),
    ("Concat", "both", {"num_args": "2", "dim": "1"}, ("halves", "leaky")),
    ("Flatten", "flat", {}, ("both",)),
    ("FullyConnected", "fc", {"num_hidden": "4"}, ("flat", "fc_weight", "fc_bias")),
    ("SoftmaxOutput", "softmax", {"grad_scale": "1", "multi_output": "False"}, ("fc", "softmax_label")),
)  # fmt: skip
SHAPES = {
    **{"conv1_weight": (6, 3, 3, 3), "bn1_gamma": (6,), "bn1_beta": (6,), "bn1_moving_mean": (6,)},
    **{"bn1_moving_var": (6,), "fc_weight": (4, 120), "fc_bias": (4,)},
}
STATES = ("bn1_moving_mean", "bn1_moving_var")


def symbol(network=NETWORK, edition="1.9", **changes) -> dict:
    """Return the JSON of a network; ``changes`` replace members of the whole."""
    nodes, numbers = [], {}

    def variable(name):
        if name not in numbers:
            numbers[name] = len(nodes)
            nodes.append(_node("null", name, {}, [], edition))

    for op, name, attributes, inputs in network:
        if op == "BatchNorm" and edition != "0.8":
            inputs = (*inputs, f"{name}_moving_mean", f"{name}_moving_var")
        pairs = []
        for each in inputs:
            source, _, output = each.partition("#")
            variable(source)
            pairs.append([numbers[source], int(output or 0), *([] if edition == "0.8" else [0])])
        numbers[name] = len(nodes)
        nodes.append(_node(op, name, attributes, pairs, edition))
    head = [len(nodes) - 1, 0] if edition == "0.8" else [len(nodes) - 1, 0, 0]
    variables = [i for i, node in enumerate(nodes) if node["op"] == "null"]
    return {"nodes": nodes, "arg_nodes": variables, "heads": [head]} | changes


def _node(op, name, attributes, inputs, edition):
    node = {"op": op, "name": name, "inputs": inputs}
    if edition == "0.8":
        return {**node, "param": attributes, "attr": {"lr_mult": "2"}, "backward_source_id": -1}
    notes = {"__lr_mult__": "2"} | attributes
    return node | ({"attr": notes} if edition == "0.11" else {"attrs": notes})


def draw(shapes=None, seed=0) -> dict[str, np.ndarray]:
    """Return arrays that every one of which counts."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in (shapes or SHAPES).items():
        positive = name.endswith(("gamma", "var"))
        scale = np.sqrt(2 / max(1, np.prod(shape[1:])))
        found[name] = (rng.uniform(0.5, 1.5, shape) if positive else rng.normal(0, scale, shape)).astype(np.float32)
    return found


def params(arrays, edition="1.9") -> bytes:
    """Return what ``mx.nd.save`` writes of a dictionary."""
    body = struct.pack("<QQQ", 0x112, 0, len(arrays))
    for array in arrays.values():
        if edition == "0.8":
            shape = struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape)
        else:
            magic = struct.pack("<I", 0xF993FAC8) if edition == "0.11" else struct.pack("<Ii", 0xF993FAC9, 0)
            shape = magic + struct.pack(f"<I{array.ndim}q", array.ndim, *array.shape)
        body += shape + struct.pack("<iii", 1, 0, 0) + array.tobytes()
    names = [f"{'aux' if name in STATES else 'arg'}:{name}".encode() for name in arrays]
    return body + struct.pack("<Q", len(names)) + b"".join(struct.pack("<Q", len(n)) + n for n in names)


def write(folder: Path, network=NETWORK, shapes=None, edition="1.9", image=None) -> tuple[Path, Path]:
    """Write both files, with the shape of ``data`` if one is given; return their paths."""
    paths = folder / "net-symbol.json", folder / "net-0000.params"
    tree = symbol(network, edition)
    if image:
        data = next(node for node in tree["nodes"] if node["name"] == "data")
        data.setdefault("attrs", {})["__shape__"] = str(image)
    paths[0].write_text(json.dumps(tree, indent=2))
    paths[1].write_bytes(params(draw(shapes), edition))
    return paths
