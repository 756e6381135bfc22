"""Damages Caffe's, Darknet's, Keras's and MXNet's files and reads them: ``python fuzz_formats.py FORMAT SEED COUNT``.

Prints one line a file that ended otherwise than in a model or a one-line PortNetError, and exits 1 if there was one.
"""

from __future__ import annotations

import io
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import caffe_files
import mxnet_files
import numpy as np
import test_formats_darknet as darknet_files
import test_formats_darknet_sections as sections_files
from caffe_networks import NETWORKS
from fuzz_models import MEMORY, SECONDS, mutate_bytes
from test_formats_caffe_wild import EXCITED, SSD, layer, net

from portnet.formats import caffe, darknet, keras, mxnet
from portnet.formats.mxnet.layer import TABLE
from portnet.formats.mxnet.ops import load as load_ops
from portnet.testing.watch import ending

NUMBERS = ("0", "1", "-1", "3", "100", "65537", str(2**31), str(2**40), str(2**63 - 1), "-5", "1e30", "0.5", "nan", "x")
OTHERS = {"ssd": SSD, "excited": EXCITED}
KEYS = ("axis", "kernel", "pad", "shape", "num_filter", "num_outputs", "num_hidden", "mode", "target_shape", "dtype")


def mutate_text(data: bytes, draw: random.Random) -> bytes:
    """Change numbers, words and lines of a text."""
    text = data.decode()
    for _ in range(draw.choice((1, 1, 2, 4))):
        found = list(re.finditer(r"-?\d+(\.\d+)?|[A-Za-z_]\w+|[{}\[\]\":=#]", text))
        one, other = draw.choice(found), draw.choice(found)
        match draw.randrange(5):
            case 0 | 1:
                number = draw.choice([m for m in found if m.group()[-1].isdigit()] or [one])
                text = text[: number.start()] + draw.choice(NUMBERS) + text[number.end() :]
            case 2:
                text = text[: one.start()] + other.group() + text[one.end() :]
            case 3:
                text = text[: one.start()] + text[one.end() :]
            case 4:
                lines = text.splitlines()
                lines.insert(draw.randrange(len(lines)), draw.choice(lines))
                text = "\n".join(lines)
    return text.encode()


def mutate_symbol(data: bytes, draw: random.Random) -> bytes:
    """Change operators, attributes, wires and heads of a symbol that stays well-formed JSON."""
    tree = json.loads(data)
    nodes = tree["nodes"]
    keys = sorted({key for node in nodes for notes in ("attr", "attrs", "param") for key in node.get(notes, {})})
    for _ in range(draw.choice((1, 1, 2, 4))):
        node = draw.choice(nodes)
        notes = node.setdefault(
            draw.choice([key for key in ("attr", "attrs", "param") if key in node] or ["attrs"]), {}
        )
        match draw.randrange(6):
            case 0:
                node["op"] = draw.choice(sorted(TABLE))
            case 1:
                notes[draw.choice((*KEYS, *keys))] = draw.choice((*NUMBERS, "()", "(0, 0)", "(1, -1)", "None", "True"))
            case 2:
                notes[draw.choice((*KEYS, *keys))] = str(tuple(draw.choice((0, 1, 2, -1, 2**31)) for _ in range(3)))
            case 3:
                node["inputs"].append([draw.randrange(len(nodes)), draw.choice((0, 0, 1, 2**31))])
            case 4 if node["inputs"]:
                draw.choice(node["inputs"])[draw.randrange(2)] = draw.choice((0, 1, -1, len(nodes), 2**40))
            case _:
                tree["heads"].append([draw.randrange(len(nodes)), draw.choice((0, 0, 1))])
    return json.dumps(tree).encode()


def mutate_inner(data: bytes, draw: random.Random) -> bytes:
    """Damage a member of an archive of Keras's, whose checksum is right: its HDF5, or its configuration."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = "model.weights.h5" if draw.random() < 0.7 else "config.json"
    mutate = mutate_text if name == "config.json" and draw.random() < 0.8 else mutate_bytes
    members[name] = mutate(members[name], draw)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key, value in members.items():
            archive.writestr(key, value)
    return buffer.getvalue()


def read(reader, *paths: Path) -> str:
    """Return "" where files end in a model or a one-line PortNetError, else what happened."""
    return ending(lambda: repr(reader.read(*paths).model), SECONDS)


def main(form: str, seed: int, count: int) -> int:
    """Read ``count`` damaged files; return how many ended badly."""
    warnings.simplefilter("ignore")
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        reader, suffix, pairs = _seeds(form, Path(folder))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for number in range(count):
            draw = random.Random(seed * 1_000_003 + number)
            pair = list(draw.choice(pairs))
            place = 0 if suffix in (".prototxt", ".cfg", "-symbol.json", ".keras", ".h5", ".json") else 1
            data = pair[place].read_bytes()
            is_text = place == 0 and suffix not in (".keras", ".h5") and draw.random() < 0.8
            pair[place] = Path(folder) / f"damaged{suffix}"
            mutate = mutate_text if is_text else mutate_bytes
            if form == "inner":
                mutate = mutate_inner
            if reader is mxnet and is_text and draw.random() < 0.6:
                mutate = mutate_symbol
            pair[place].write_bytes(mutate(data, draw))
            if form == "binaryproto":  # which a prototxt finds beside it
                pair = pair[:1]
            problem = read(reader, *pair[: 1 if place == 0 and draw.random() < 0.5 else 2])
            if problem:
                bad += 1
                print(f"{form} {number} of seed {seed}: {problem}", flush=True)
    return bad


def _seeds(form: str, folder: Path):
    pairs = []
    if form in ("prototxt", "caffemodel"):
        for name, network in OTHERS.items():
            (folder / name).mkdir()
            pairs.append(caffe_files.write(folder / name, *network))
        for name, edition in (*((n, "layer") for n in NETWORKS), ("lenet", "double"), ("resnet", "V0")):
            (folder / f"{name}{edition}").mkdir()
            pairs.append(caffe_files.write(folder / f"{name}{edition}", *NETWORKS[name], edition))
        return caffe, f".{form}", pairs
    if form in ("symbol", "params"):
        load_ops()
        for edition in mxnet_files.EDITIONS:
            (folder / edition).mkdir()
            pairs.append(mxnet_files.write(folder / edition, edition=edition, image=mxnet_files.IMAGE))
        return mxnet, "-symbol.json" if form == "symbol" else ".params", pairs
    if form == "binaryproto":
        path = folder / "net.prototxt"
        path.write_text(net((1, 3, 227, 227), layer("r", "ReLU", "data")))
        image = np.random.default_rng(0).uniform(0, 255, (1, 3, 6, 5)).astype(np.float32)
        (folder / "mean.blob").write_bytes(caffe_files.blob(image, "layers"))
        return caffe, ".binaryproto", [(path, folder / "mean.blob")]
    if form == "inner":
        reader, _, pairs = _seeds("keras", folder)
        return reader, ".keras", pairs
    if form in ("keras", "h5", "json"):
        # Keras writes them in a process of its own: this one may have little memory
        subprocess.run([sys.executable, Path(__file__).with_name("keras_files.py"), folder], check=True)
        return keras, f".{form}", [(path,) for path in sorted(folder.glob(f"*.{form}"))]
    for name in ("tiny", "connected", "reorg", "yolo"):
        (folder / name).mkdir()
        pairs.append(darknet_files.write(folder / name, darknet_files.NETWORKS[name]))
    if form == "cfg":
        for name, sections in sections_files.TRAINED.items():
            (folder / name).mkdir()
            text = f"[net]\ninputs=6\n{sections[0]}" if name in ("lstm", "gru") else darknet_files.net(8, *sections)
            (folder / name / "net.cfg").write_text(text)
            pairs.append((folder / name / "net.cfg", folder / "tiny" / "net.weights"))
    return darknet, f".{form}", pairs


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])) > 0)
