"""The frozen prefix: where it is cut, that it changes no loss, and what is kept of it."""

import errno
import json
import os
import signal
import subprocess
import sys
import weakref

import numpy as np
import onnx
import onnx.parser
import pytest
from typer.testing import CliRunner

import portnet
from portnet.cli.app import app
from portnet.data.augment import Augment
from portnet.engines import installed
from portnet.errors import InputError, OutputError
from portnet.finetuning.api import resume
from portnet.finetuning.callbacks import Callback
from portnet.finetuning.plan import train_plan
from portnet.finetuning.prefix import keep as keeping
from portnet.finetuning.prefix import where
from portnet.finetuning.prefix.frontier import cuts, split_at
from portnet.finetuning.prefix.store import DamagedError, Store
from portnet.finetuning.settings import Settings
from portnet.graph.digests import Digests
from portnet.graph.metadata import Preprocessing
from portnet.graph.model import Model

SIZE = 16
# a stem, a block of two branches that are added, and one more convolution
TEXT = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,16,16] x) => (float[N,12,8,8] y) {
    c1 = Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]> (x, w1)
    b1 = BatchNormalization (c1, s1, o1, m1, v1)
    r1 = Relu (b1)
    ca = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r1, wa)
    ba = BatchNormalization (ca, sa, oa, ma, va)
    cb = Conv <kernel_shape=[1,1]> (r1, wb)
    add = Add (ba, cb)
    r2 = Relu (add)
    c3 = Conv <kernel_shape=[3,3], pads=[1,1,1,1]> (r2, w3)
    b3 = BatchNormalization (c3, s3, o3, m3, v3)
    y = Relu (b3) }"""
SHAPES = {"w1": (8, 3, 3, 3), "wa": (12, 8, 3, 3), "wb": (12, 8, 1, 1), "w3": (12, 12, 3, 3)}
WIDTHS = {"1": 8, "a": 12, "3": 12}


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PORTNET_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def network():
    generator = np.random.default_rng(3)
    proto = onnx.parser.parse_model(TEXT)
    arrays = {name: generator.normal(0, 0.3, shape) for name, shape in SHAPES.items()}
    for mark, width in WIDTHS.items():
        arrays |= {f"o{mark}": generator.normal(0, 0.1, width), f"m{mark}": generator.normal(0, 0.1, width)}
        arrays |= {f"s{mark}": generator.uniform(0.5, 2, width), f"v{mark}": generator.uniform(0.5, 2, width)}
    for name, array in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    for node in proto.graph.node:
        node.name = node.output[0]
    model = Model.from_bytes(proto.SerializeToString())
    model.preprocessing = Preprocessing(size=(SIZE, SIZE), mean=(0.5,) * 3, std=(0.5,) * 3)
    return model


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 255, (48, 20, 20, 3)).astype(np.uint8)
    return pixels, ["a", "b", "c"] * 16


def train(images, network, *, backend="torch", freeze="backbone", **options):
    settings = {
        "progress": False,
        "head": "linear",
        "epochs": 2,
        "optimizer": "sgd",
        "lr": 0.01,
        "batch_size": 8,
        "val": 0.25,
    }
    run = portnet.finetune(
        images,
        backbone=portnet.Backbone.of(network, feature="y"),
        backend=backend,
        freeze=freeze,
        **{**settings, **options},
    )
    return run, np.array(run.history.losses)


def attached(network, freeze, **options):
    model = portnet.Head.linear().attach(portnet.Backbone.of(network, feature="y"), ["a", "b", "c"])
    return model, portnet.FreezePolicy.parse(freeze).with_options(**options).resolve(model)


# ---- where it is cut

CASES = [
    ("backbone", "auto", ["head.flatten"]),
    ("first:4", "auto", ["r1"]),
    ("until:ca", "auto", ["r1", "ca"]),
    ("until:add", "auto", ["r2"]),
    ("match:c1|b1|ca|ba", "auto", ["r1", "ba"]),
    ("backbone", "train", ["c1"]),
    ("match:c1|b1|cb", "train", ["c1"]),
    ("match:c1|b1|cb", "frozen", ["r1"]),
]


@pytest.mark.parametrize(("freeze", "batch_norm", "expected"), CASES)
def test_the_cut(network, freeze, batch_norm, expected):
    best = cuts(*attached(network, freeze, batch_norm=batch_norm))[0]
    assert list(best.tensors) == expected


def test_several_tensors_where_one_would_leave_frozen_work(network):
    options = cuts(*attached(network, "match:c1|b1|ca|ba"))
    several, one = options[0], options[1]
    assert several.tensors == ("r1", "ba")
    assert several.macs_left == 0
    assert several.numbers == 8 * 8 * (8 + 12)
    # behind the stem alone, the frozen branch runs at each step: 12 filters of 8·3·3 at 8·8 places
    assert one.tensors == ("r1",)
    assert one.macs_left == 12 * 8 * 9 * 64


def test_prefix_and_suffix_compute_the_whole(network):
    model, table = attached(network, "match:c1|b1|ca|ba")
    x = np.random.default_rng(1).normal(size=(3, 3, SIZE, SIZE)).astype(np.float32)
    whole = portnet.load(model).run({"x": x})["logits"]
    for option in cuts(model, table):
        prefix, suffix = split_at(model, option.tensors)
        between = portnet.load(prefix).run({"x": x})
        assert [between[name].shape[1:] for name in option.tensors] == list(option.shapes)
        assert np.abs(portnet.load(suffix).run(between)["logits"] - whole).max() < 1e-5


def test_nothing_to_cut(network):
    assert cuts(*attached(network, "none")) == []
    assert cuts(*attached(network, "match:c3")) == []


# ---- that it changes nothing

EQUAL = [("backbone", None), ("first:4", None), ("until:add", None), ("match:c1|b1|ca|ba", None), ("backbone", "train")]


@pytest.mark.parametrize(("freeze", "batch_norm"), EQUAL)
@pytest.mark.parametrize("backend", installed())
def test_losses_are_those_of_the_uncut_run(images, network, backend, freeze, batch_norm):
    options = {"backend": backend, "freeze": freeze, "batch_norm": batch_norm, "epochs": 5}
    kept, losses = train(images, network, cache="disk", **options)
    whole, expected = train(images, network, cache="off", **options)
    assert len(losses) == len(expected) >= 20
    assert kept.record["cache"]["tensors"]
    assert whole.record["cache"] is None
    assert np.abs(losses - expected).max() < 1e-4
    assert abs(kept.history[-1].val_loss - whole.history[-1].val_loss) < 1e-4
    for name, array in whole.model.weights().items():
        assert np.abs(kept.model.weights()[name] - array).max() < 1e-3, name


@pytest.mark.parametrize("backend", installed())
def test_gradients_behind_several_tensors_are_those_of_the_whole(network, backend):
    model, table = attached(network, "match:c1|b1|ca|ba")
    prefix, suffix = split_at(model, ("r1", "ba"))
    x, y = np.random.default_rng(1).normal(size=(8, 3, SIZE, SIZE)).astype(np.float32), np.arange(8) % 3
    between = portnet.load(prefix).run({"x": x})
    found = []
    for part, inputs in ((model, x), (suffix, (between["r1"], between["ba"]))):
        lowered = portnet.engine(backend).lower(part)
        found.append(lowered.trainer(train_plan(table, Settings("x"), part, None)).gradients(inputs, y))
    assert set(found[0]) == set(found[1])
    for name, gradient in found[0].items():
        assert np.abs(found[1][name] - gradient).max() < 1e-5 * max(np.abs(gradient).max(), 1), name


def test_views_are_the_changes_of_the_first_epochs(images, network):
    options = {"freeze": "first:4", "augment": Augment(translate=3)}
    _, expected = train(images, network, cache="off", epochs=2, **options)
    run, losses = train(images, network, augment_views=2, epochs=4, **options)
    assert np.abs(losses[: len(expected)] - expected).max() < 1e-4
    assert run.record["cache"]["views"] == 2
    assert run.record["settings"]["augment_views"] == 2
    with pytest.raises(InputError, match="nothing can be kept"):
        train(images, network, cache="disk", **options)
    with pytest.raises(InputError, match="augment views"):
        train(images, network, augment_views=2)


def test_onnxruntime_folds_batch_norm_when_the_prefix_is_loaded(network, tmp_path):
    import onnxruntime

    prefix, _ = split_at(*[attached(network, "backbone")[0], ("head.flatten",)])
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(prefix.to_bytes(), options, providers=["CPUExecutionProvider"])
    before = [node.op_type for node in prefix.ir.graph]
    after = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert "BatchNormalization" in before
    assert "BatchNormalization" not in after


def test_the_session_is_gone_when_training_begins(images, network, monkeypatch):
    """And its threads with it."""
    sessions, alive = [], []

    class Watched(where.Session):
        def __init__(self, model, provider):
            super().__init__(model, provider=provider)
            assert self.provider == provider == where.preferred_here()  # as the key says
            sessions.append(weakref.ref(self))

    class Looks(Callback):
        def on_start(self, start):
            alive.extend(session() for session in sessions)

    monkeypatch.setattr(where, "Session", Watched)
    train(images, network, cache="disk", callbacks=[Looks()])
    assert alive == [None]


# ---- what is kept


@pytest.fixture
def computed(monkeypatch):
    """Counts of rows that were computed, a number a call."""
    calls = []
    original = keeping.run_prefix

    def counted(session, images, *rest):
        calls.append(images.rows)
        original(session, images, *rest)

    monkeypatch.setattr(keeping, "run_prefix", counted)
    return calls


def test_another_head_rate_engine_and_split_find_what_is_kept(images, network, computed):
    first, losses = train(images, network)
    assert computed == [48]
    assert first.record["cache"]["where"] == "disk"
    for options in ({"head": "mlp:7"}, {"lr": 0.1, "optimizer": "adam"}, {"seed": 5}, {"batch_size": 5}):
        run, _ = train(images, network, freeze="until:y", **options)
        assert run.record["cache"]["computed"] is False
    for backend in installed():
        _, same = train(images, network, backend=backend)
        assert np.abs(same - losses).max() < 1e-3
    assert computed == [48]


def test_other_images_preprocessing_weights_and_types_are_computed(images, network, computed):
    train(images, network)
    pixels, labels = images
    changed = pixels.copy()
    changed[7, 0, 0, 0] ^= 1
    train((changed, labels), network)
    other = network.copy()
    other.preprocessing = Preprocessing(size=(SIZE, SIZE), mean=(0.4,) * 3, std=(0.5,) * 3)
    train(images, other)
    train(images, network.with_weights({"w1": network.weights()["w1"] * 1.01}))
    train(images, network, cache_dtype="float16")
    train(images, network, freeze="until:add")
    assert len(computed) == 6
    train((pixels[:30], labels[:30]), network)
    assert computed[-1] == 30


def test_images_that_are_there_twice_are_computed_once(images, network, computed):
    pixels, labels = images
    train((np.concatenate([pixels, pixels[:10]]), labels + labels[:10]), network)
    assert computed == [48]


@pytest.mark.parametrize("harm", ["truncate", "flip", "header", "manifest", "foreign", "link", "missing"])
def test_what_is_damaged_is_found_and_made_again(images, network, computed, harm, capsys, tmp_path):
    _, losses = train(images, network)
    (entry,) = Store().entries()
    path, manifest = entry.path / "0.npy", entry.path / "manifest.json"
    data = path.read_bytes()
    if harm == "truncate":
        path.write_bytes(data[:-4])
    elif harm == "flip":
        path.write_bytes(data[:-4] + bytes(4))
    elif harm == "header":
        path.write_bytes(data.replace(b"(48, 12)", b"(12, 48)"))
    elif harm == "manifest":
        manifest.write_text(manifest.read_text()[:-9])
    elif harm == "foreign":
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "key": {"graph": "another"}}))
    elif harm == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.unlink()
    _, again = train(images, network)
    assert np.array_equal(losses, again)
    assert computed == [48, 48]
    (whole,) = Store().entries()
    assert whole.is_whole


def test_half_precision_halves_the_bytes_and_hardly_moves_the_losses(images, network):
    single, losses = train(images, network)
    half, rounded = train(images, network, cache_dtype="float16")
    assert half.record["cache"]["bytes"] * 2 == single.record["cache"]["bytes"]
    assert 0 < np.abs(losses - rounded).max() < 1e-2
    scales = {"s3": network.weights()["s3"] * 1e6}
    with pytest.raises(InputError, match="float16 holds numbers up to 65,504"):
        train(images, network.with_weights(scales), freeze="until:y", cache_dtype="float16")
    assert len(Store().entries()) == 2


def notes(capsys):
    return capsys.readouterr().out


def test_no_room_is_said_or_refused(images, network, capsys, monkeypatch):
    size = 48 * 12 * 4
    run, _ = train(images, network, cache_limit=size, cache="disk")
    assert run.record["cache"]["bytes"] == size
    with pytest.raises(
        InputError, match=r"holds \d\.\d kB and may hold 2\.3 kB\. Clear it with `portnet cache --clear`"
    ):
        train(images, network, cache="disk", cache_limit=size, freeze="until:add")
    with pytest.raises(InputError, match="more than the 100 bytes that memory may"):
        train(images, network, cache="memory", cache_limit=100)
    Store().clear()
    monkeypatch.setattr(keeping, "DISK_LIMIT", 100)
    run, losses = train(images, network, progress=True)
    assert run.record["cache"]["where"] == "memory"
    assert "activations are kept in memory: " in notes(capsys)
    monkeypatch.setattr(keeping, "MEMORY_LIMIT", 100)
    run, same = train(images, network, progress=True)
    assert run.record["cache"] is None
    assert "the frozen part is not kept and runs at each step: " in notes(capsys)
    assert np.abs(losses - same).max() < 1e-4
    assert not Store().entries()


def test_a_cache_that_cannot_be_written(images, network, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PORTNET_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="cannot write"):
        train(images, network, cache="disk")
    run, _ = train(images, network)
    assert run.record["cache"]["where"] == "memory"


def test_a_cache_that_may_not_be_read(images, network, monkeypatch, capsys):
    def refused(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    Store().folder.mkdir(parents=True)
    monkeypatch.setattr("portnet.finetuning.prefix.store.Path.iterdir", refused)
    run, _ = train(images, network, progress=True)
    assert run.record["cache"]["where"] == "memory"
    assert "activations are kept in memory: cannot read" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(OutputError, match=r"cannot read .*: Permission denied"):
        train(images, network, cache="disk")


def test_an_error_midway_leaves_nothing(images, network, monkeypatch):
    def fails(session, images, preprocessing, append, *rest):
        append([np.zeros((1, 12), np.float32)])
        raise InputError("broken image")

    monkeypatch.setattr(keeping, "run_prefix", fails)
    with pytest.raises(InputError, match="broken image"):
        train(images, network)
    assert not list(Store().folder.iterdir())


SLOW = """
import numpy as np, sys, time
from portnet.finetuning.prefix.store import Store
with Store().writing("0123456789abcdef", {}, [(2, 3)], "float32", {}) as writer:
    writer.append([np.zeros((1, 3), np.float32)])
    print("half", flush=True)
    time.sleep(60)
"""


def test_a_writer_that_is_killed_leaves_nothing_that_is_read():
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"half\n"
    store = Store()
    (entry,) = store.entries()
    assert entry.owner == process.pid
    assert store.clear() == []
    process.send_signal(signal.SIGKILL)
    process.wait()
    (entry,) = store.entries()
    assert (entry.owner, entry.is_whole, store.holds(entry.id)) == (None, False, False)
    with pytest.raises(DamagedError):
        store.open(entry.id, {}, [(2, 3)], "float32")
    assert len(store.clear()) == 1
    assert not store.entries()


def test_a_resumed_run_is_cut_where_it_was(images, network):
    model, table = attached(network, "first:4")
    settings = train(images, network, freeze="first:4")[0].settings
    loader = keeping.Loader(portnet.data.load_dataset(images), network.preprocessing, 8, shuffle=True, seed=0)
    digests = Digests(model.weights())
    ask = (model, table, digests, loader, None, settings, keeping_reporter(), keeping.Interrupt())
    assert keeping.keep(*ask, tensors=[]) is None
    assert keeping.keep(*ask, tensors=["c1"]).record["tensors"] == ["c1"]
    with pytest.raises(InputError, match="the run was cut at y"):
        keeping.keep(*ask, tensors=["y"])


class _CtrlC:
    """Presses Ctrl-C in a step."""

    def __init__(self, step):
        self.step = step

    def on_step(self, step):
        if step.step == self.step:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("cleared", [False, True])
@pytest.mark.parametrize("backend", installed())
def test_a_cut_run_that_is_resumed_ends_bit_identical(images, network, backend, cleared, tmp_path):
    options = {"backend": backend, "head": "mlp:8", "epochs": 3, "optimizer": "adam", "freeze": "match:c1|b1|ca|ba"}
    whole, losses = train(images, network, **options)
    stopped, _ = train(
        images, network, callbacks=[_CtrlC(7)], out=tmp_path / "run", checkpoint_every="2 steps", **options
    )
    assert stopped.interrupted
    if cleared:
        Store().clear()
    backbone = portnet.Backbone.of(network, feature="y")
    resumed = resume(tmp_path / "run", data=images, backbone=backbone, progress=False)
    assert resumed.record["cache"]["tensors"] == ["r1", "ba"]
    assert np.array_equal(resumed.history.losses, losses)
    assert resumed.model.digest() == whole.model.digest()


def keeping_reporter():
    from portnet.finetuning.progress import SilentReporter

    return SilentReporter()


# ---- the command


def cli(*arguments):
    return CliRunner().invoke(app, ["cache", *arguments])


def test_portnet_cache_lists_and_clears(images, network):
    assert "nothing is kept" in cli().output
    train(images, network)
    train(images, network, freeze="until:add")
    entries = json.loads(cli("--json").output)["entries"]
    assert {tuple(entry["tensors"]) for entry in entries} == {("head.flatten",), ("r2",)}
    listed = cli().output
    assert "head.flatten" in listed
    assert "2 entries" in listed
    name = entries[0]["id"]
    assert cli(name).exit_code == 2
    assert "removed 1 entry" in cli("--clear", name[:6]).output
    assert len(Store().entries()) == 1
    assert cli("--clear", "zzz").exit_code != 0
    assert json.loads(cli("--clear", "--json").output)["cleared"] is True
    assert not os.listdir(Store().folder)
