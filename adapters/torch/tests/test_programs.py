"""Files of torch.export: read as torch reads them, and refused where torch would run what they hold."""

import json
import random
import time
import warnings
import zipfile

import pytest
import torch
from portnet_torch import Engine
from torch import nn

from portnet.capturing import capture_original
from portnet.errors import InputError, PortNetError


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("shift", torch.ones(4, 1, 1), persistent=False)

    def forward(self, x):
        return {"features": (self.conv(x) + self.shift).flatten(1)}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "small.pt2"
    exported = torch.export.export(
        Small().eval(), (torch.zeros(2, 3, 5, 5),), dynamic_shapes=({0: torch.export.Dim("N")},)
    )
    torch.export.save(exported, path)
    return path


def _members(path):
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def _write(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"small/{name}", data)
    return str(path)


def _changed(program, tmp_path, change, name="models/model.json"):
    members = _members(program)
    content = json.loads(members[name])
    change(content)
    members[name] = json.dumps(content).encode()
    return _write(tmp_path / "changed.pt2", members)


def test_a_program_is_captured_under_its_files_name(program):
    result = capture_original(str(program))
    assert result.report.passed
    assert result.model.name == "small"
    assert [str(port) for port in (*result.model.inputs, *result.model.outputs)] == [
        "x: float32 N×3×5×5",
        "features: float32 N×36",
    ]
    assert result.model.parameter_count == 4 * 3 * 9 + 4


def _nodes(content):
    return content["graph_module"]["graph"]["nodes"]


@pytest.mark.parametrize(
    "target",
    ["torch.os.system", "torch.hub.load", "torch.load", "_operator.attrgetter", "#x", "torch.ops.mine.f.default"],
)
def test_operations_that_are_not_torchs_are_refused(program, tmp_path, target):
    path = _changed(program, tmp_path, lambda content: _nodes(content)[0].update(target=target))
    with pytest.raises(InputError, match="is refused: only torch's own operations"):
        Engine().open(path)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch /tmp/reached')",
        "Symbol('s0').__class__",
        "Pow(Integer(9), Integer(999999999))",
        "Pow(Pow(Integer(9), Integer(8)), Integer(8))",
        "9" * 30,
        "lambda: 0",
        "Symbol('" + "a" * 100 + "')",
    ],
)
def test_sizes_that_are_code_or_grow_are_refused(program, tmp_path, text):
    def change(content):
        sizes = content["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = text

    with pytest.raises(InputError, match="is refused: only arithmetic on sizes"):
        Engine().open(_changed(program, tmp_path, change))


@pytest.mark.parametrize("change", [{"use_pickle": True}, {"path_name": "custom_obj_0"}, {"path_name": "../weight_0"}])
def test_pickles_and_objects_are_refused(program, tmp_path, change):
    name = "data/weights/model_weights_config.json"
    path = _changed(program, tmp_path, lambda content: content["config"]["conv.weight"].update(change), name)
    with pytest.raises(InputError, match="stored as a pickle or an object"):
        Engine().open(path)


def test_a_tensor_larger_than_its_bytes_is_refused(program, tmp_path):
    def change(content):
        meta = content["config"]["conv.weight"]["tensor_meta"]
        meta["sizes"], meta["strides"] = [{"as_int": 10**6}] * 4, [{"as_int": 0}] * 4

    path = _changed(program, tmp_path, change, "data/weights/model_weights_config.json")
    with pytest.raises(InputError, match="does not fit its"):
        Engine().open(path)


def test_example_inputs_are_never_unpickled(program, tmp_path):
    members = _members(program) | {"data/sample_inputs/model.pt": b"\x80\x04cos\nsystem\n(S'touch /tmp/reached'\ntR."}
    result = Engine().open(_write(tmp_path / "pickled.pt2", members))
    assert isinstance(result, torch.export.ExportedProgram)


def test_other_files_of_torch_say_what_to_do(tmp_path):
    for name in ("net.pt", "net.pth"):
        torch.save(nn.Linear(2, 2), tmp_path / name)
        with pytest.raises(InputError, match=r"torch\.export\.save"):
            capture_original(str(tmp_path / name))
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt2")
    with pytest.raises(InputError, match=r"expected a program that torch\.export\.save"):
        Engine().open(str(tmp_path / "weights.pt2"))
    (tmp_path / "text.pt2").write_text("no archive")
    with pytest.raises(InputError, match=r"no program of torch\.export, or damaged"):
        Engine().open(str(tmp_path / "text.pt2"))
    with pytest.raises(InputError, match="no such file"):
        Engine().open(str(tmp_path / "missing.pt2"))


def test_damaged_programs_are_errors_of_one_line(program, tmp_path):
    """A thousand mutations: of the archive's bytes, and of its text behind right checksums."""
    generator, path = random.Random(0), tmp_path / "damaged.pt2"
    data, members = program.read_bytes(), _members(program)
    texts = [name for name in members if name.endswith(".json")]
    begin, messages = time.process_time(), []
    for index in range(1000):
        if index % 2:
            path.write_bytes(_mutated(generator, data))
        else:
            name = generator.choice(texts)
            _write(path, members | {name: _mutated(generator, members[name])})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                Engine().open(str(path))
        except PortNetError as error:
            messages.append(str(error))
    assert len(messages) > 500
    assert not any("\n" in message for message in messages)
    assert time.process_time() - begin < 120


def _mutated(generator, data):
    damaged = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(damaged))
        kind = generator.randrange(3)
        if kind == 0:
            damaged[at] = generator.randrange(256)
        elif kind == 1:
            del damaged[at : at + generator.randint(1, 40)]
        else:
            damaged[at:at] = generator.randbytes(generator.randint(1, 8))
    return bytes(damaged)
