"""The suite's own tests: a backend that is wrong in any way is caught."""

import re
import sys
import time

import numpy as np
import onnx
import onnx.reference
import pytest
from onnx.backend.base import Backend, BackendRep

from portnet.adapter import Adapter, Lowered
from portnet.errors import InputError, UnsupportedError
from portnet.graph.lowering import HostValueNeededError
from portnet.testing import backend as backend_module
from portnet.testing.__main__ import summary
from portnet.testing.backend import make_backend
from portnet.testing.cases import KINDS, cases, find_case
from portnet.testing.compare import difference
from portnet.testing.coverage import markdown
from portnet.testing.known_gaps import compare, load_gaps, write_gaps
from portnet.testing.peers import OnnxRuntimeBackend, ReferenceBackend, version_of
from portnet.testing.suite import Report, run_case, run_here, select
from portnet.testing.worker import _Child

SOFTMAX = "test_softmax_axis_1"


Reference = ReferenceBackend


def spoiled(change):
    """The reference, its outputs spoiled by ``change``."""

    class Rep(BackendRep):
        def __init__(self, rep):
            self.rep = rep

        def run(self, inputs, **kwargs):
            return change(list(self.rep.run(inputs)))

    class Spoiled(Backend):
        @classmethod
        def prepare(cls, model, device="CPU", **kwargs):
            return Rep(Reference.prepare(model))

    return Spoiled


def crash(outputs):
    raise RuntimeError("segmentation fault")


def test_the_package_ships_all_kinds_under_unique_names():
    names = [case.name for case in cases()]
    assert len(names) == len(set(names))
    counts = {kind: sum(1 for _ in cases(kind)) for kind in KINDS}
    assert counts["node"] >= 1800
    assert counts["real"] == 9
    assert sum(counts.values()) == len(names)


def test_case_of_an_expanded_function_knows_its_op():
    assert find_case("test_hardswish_expanded").op == "HardSwish"


# ---- wrong backends


@pytest.mark.parametrize(
    ("change", "status", "reason"),
    [
        (lambda o: o, "passed", ""),
        (lambda o: [o[0] + 0.01], "wrong", "12 of 12|60 of 60|values differ"),
        (lambda o: [o[0].astype(np.float64)], "wrong", "got dtype float64, expected float32"),
        (lambda o: [o[0][:1]], "wrong", "got shape"),
        (lambda o: [o[0].reshape(1, *o[0].shape)], "wrong", "got shape"),
        (lambda o: [o[0].mean()], "wrong", "got shape"),
        (lambda o: [], "wrong", "got 0 outputs, expected 1"),
        (lambda o: [*o, o[0]], "wrong", "got 2 outputs, expected 1"),
        (lambda o: [np.where(o[0] == o[0].max(), np.nan, o[0])], "wrong", "NaN"),
        (lambda o: [[o[0]]], "wrong", "got list, expected an array"),
        (lambda o: [None], "wrong", "got NoneType"),
        (lambda o: o[0], "wrong", "expected a tuple"),
        (crash, "crashed", "RuntimeError: segmentation fault"),
    ],
)
def test_spoiled_outputs_are_caught(change, status, reason):
    outcome = run_case(find_case(SOFTMAX), spoiled(change))
    assert outcome.status == status
    assert re.search(reason, outcome.reason)


def test_exception_while_preparing_is_a_crash_and_a_portnet_error_a_refusal():
    def raising(error):
        class Raising(Backend):
            @classmethod
            def prepare(cls, model, device="CPU", **kwargs):
                raise error

        return Raising

    assert run_case(find_case(SOFTMAX), raising(ValueError("x"))).status == "crashed"
    assert run_case(find_case(SOFTMAX), raising(UnsupportedError("no"))).status == "refused"


def test_portnet_error_while_running_is_a_crash():
    def refuse(outputs):
        raise UnsupportedError("too late")

    assert run_case(find_case(SOFTMAX), spoiled(refuse)).status == "crashed"


def test_random_case_needs_shape_and_dtype_alone():
    case = find_case("test_bernoulli")
    assert run_case(case, spoiled(lambda o: [1 - o[0]])).status == "random"
    assert run_case(case, spoiled(lambda o: [o[0].astype(np.float16)])).status == "wrong"


def test_live_dropout_is_random_and_dropout_without_ratio_is_not():
    flip = spoiled(lambda o: [o[0] + 1, *o[1:]])
    assert run_case(find_case("test_training_dropout"), flip).status == "random"
    assert run_case(find_case("test_training_dropout_zero_ratio"), flip).status == "wrong"
    assert run_case(find_case("test_dropout_default_ratio"), flip).status == "wrong"


# ---- comparison


A = np.array([1.0, 2.0], np.float32)


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        ([[A]], [[A, A]]),
        ([A], [[A]]),
        ([[A, A + 1]], [[A, A]]),
        ([None], [A]),
        ([A], [None]),
        ([np.array(["a"], object)], [np.array(["b"], object)]),
        ([np.array([1], np.int64)], [np.array(["1"], object)]),
        ([{"a": 1}], [{"a": 2}]),
        ([np.array([np.inf])], [np.array([-np.inf])]),
        ([np.array([1e38])], [np.array([np.inf])]),
        ([np.array([2**63 - 1])], [np.array([0])]),
        ([np.array([False])], [np.array([True])]),
        ([1.0], [np.array(1.0)]),
    ],
)
def test_difference_sees(got, expected):
    assert difference(got, expected, 1e-3, 1e-7)


@pytest.mark.parametrize(
    "value",
    [
        [A, A],
        None,
        {"a": 1},
        np.array(["a"], object),
        np.array([np.nan, np.inf, -np.inf]),
        np.array(2**63 - 1),
        np.zeros((0, 3)),
    ],
)
def test_difference_accepts_equal(value):
    assert difference([value], [value], 0.0, 0.0) is None


def test_string_dtypes_are_one():
    assert difference([np.array(["a", "b"])], [np.array(["a", "b"], object)], 0, 0) is None


# ---- the reference as a backend


def test_reference_passes_its_own_sample():
    report = run_here("onnx.reference", Reference, select("^test_(softmax|gemm|conv|reduce_max|cast_FLOAT)"))
    assert len(report.outcomes) > 80
    assert report.count("passed") == len(report.outcomes)


def test_reference_runs_cases_on_disk():
    report = run_here("onnx.reference", Reference, [*select("sequence_model|^test_Linear", "simple")[:4]])
    report.outcomes.update(run_here("", Reference, select("Linear", "pytorch-converted")).outcomes)
    assert {outcome.status for outcome in report.outcomes.values()} == {"passed"}


def test_real_architecture_has_its_expected_output():
    model, [(inputs, outputs)] = find_case("test_squeezenet").load()
    assert inputs[0].shape == (1, 3, 224, 224)
    assert outputs[0].shape == (1, 1000, 1, 1)
    pytest.importorskip("onnxruntime")
    got = OnnxRuntimeBackend.prepare(model).run(inputs)
    assert difference(got, outputs, 1e-3, 1e-7) is None


def test_report_survives_json_and_groups_reasons():
    report = run_here("x", spoiled(lambda o: [o[0] + 0.01]), select("^test_softmax_axis"))
    again = Report.from_json(report.to_json())
    assert again == report
    assert again.by_op() == {"Softmax": {"wrong": len(report.outcomes)}}
    assert len(again.by_reason("wrong")) < len(report.outcomes)
    assert f"0 of {len(report.outcomes)} passed" in summary(again)


def test_coverage_page_counts_what_the_reports_hold():
    right = run_here("right", Reference, select("^test_(relu|softmax_axis)"))
    wrong = run_here("wrong", spoiled(crash), select("^test_(relu|softmax_axis)"))
    page = markdown([right, wrong], [version_of("onnx.reference"), "Other 1.0"])
    softmax = sum(outcome.op == "Softmax" for outcome in right.outcomes.values())
    assert f"| Softmax | {softmax} | all | – |" in page
    assert f"| **passed** | **{len(right.outcomes)}** | **0** |" in page
    assert f"| crashed | 0 | {len(right.outcomes)} |" in page


# ---- known gaps


def report_of(**statuses):
    case = {"wrong": lambda o: [o[0] + 1], "passed": lambda o: o}
    report = run_here("x", Reference, [])
    for name, status in statuses.items():
        outcome = run_case(find_case(name), spoiled(case.get(status, crash)))
        if status == "refused":
            outcome = type(outcome)(name, "node", "Relu", "refused", "no such op")
        report.outcomes[name] = outcome
    return report


def test_gaps_that_match_are_no_problem():
    assert compare(report_of(test_relu="refused", test_abs="passed"), {"test_re*u": "no relu"}) == []


@pytest.mark.parametrize(
    ("statuses", "gaps", "problem"),
    [
        ({"test_relu": "refused"}, {}, "new gap: test_relu"),
        ({"test_relu": "passed"}, {"test_relu": "none yet"}, "closed gap: 'test_relu'"),
        ({"test_relu": "wrong"}, {"test_relu": "none yet"}, "wrong: test_relu"),
        ({"test_relu": "crashed"}, {"test_*": "none yet"}, "crashed: test_relu"),
        ({"test_relu": "refused", "test_abs": "passed"}, {"test_*": "all"}, "no longer refuses test_abs"),
    ],
)
def test_gaps_that_do_not_match_are_told(statuses, gaps, problem):
    assert any(problem in line for line in compare(report_of(**statuses), gaps))


def test_gaps_file_is_written_and_read(tmp_path):
    write_gaps(report_of(test_relu="refused"), tmp_path / "gaps.toml")
    assert load_gaps(tmp_path / "gaps.toml") == {"test_relu": "no such op"}


@pytest.mark.parametrize("text", ["test_relu = 3", 'test_relu = ""', "test_relu ="])
def test_gaps_file_needs_reasons(tmp_path, text):
    (tmp_path / "gaps.toml").write_text(text)
    with pytest.raises(InputError, match="known gaps"):
        load_gaps(tmp_path / "gaps.toml")


# ---- the standard's interface over an engine


class ToyLowered(Lowered):
    """A network that the standard's reference runs."""

    engine = "toy"

    def __init__(self, model):
        self.model = model
        self.native = onnx.reference.ReferenceEvaluator(onnx.load_from_string(model.to_bytes()))

    def run(self, feeds):
        return dict(zip(self.native.output_names, self.native.run(None, dict(feeds)), strict=True))

    def weights(self):
        return {}

    def set_weights(self, arrays):
        raise NotImplementedError

    @property
    def trainable_count(self):
        return self.model.parameter_count

    def trainer(self, plan):
        raise NotImplementedError


class Toy(Adapter):
    """An engine that must know shapes, and the numbers of every Reshape and Range, while it builds."""

    name = framework = "toy"
    ops = frozenset()

    def __init__(self):
        self.lowered = []

    def version(self):
        return "0"

    def devices(self):
        return ["cpu"]

    def lower(self, model, *, device=None):
        for node in model.ir.graph:
            for value in node.inputs[{"Reshape": 1}.get(node.op_type, 0) :]:
                if node.op_type in ("Reshape", "Range") and value.const_value is None:
                    raise HostValueNeededError(value)
        if not all(isinstance(n, int) for port in model.inputs for n in port.shape):
            raise UnsupportedError("sizes must be known")
        self.lowered.append(model)
        return ToyLowered(model)

    def lower_canonical(self, model, device):
        raise NotImplementedError


@pytest.fixture
def toy(monkeypatch):
    engine = Toy()
    monkeypatch.setattr(backend_module, "engine", lambda name: engine)
    return engine


def reshape():
    return onnx.helper.make_node("Reshape", ["x", "shape"], ["y"])


X = np.arange(6, dtype=np.float32)


def test_input_that_must_be_known_is_bound_once_for_each_value(toy):
    model, _ = backend_module.node_model(reshape(), [X, np.array([2, 3])])
    ready = make_backend("toy").prepare(model)
    assert toy.lowered == []
    for shape in ([2, 3], [2, 3], [3, 2]):
        assert ready.run([X, np.array(shape)])[0].shape == tuple(shape)
    assert len(toy.lowered) == 2
    assert [port.name for port in toy.lowered[0].inputs] == ["x"]
    assert toy.lowered[0].parameter_count == 0


def test_large_input_is_not_bound(toy):
    model, _ = backend_module.node_model(reshape(), [X, np.array([2, 3])])
    with pytest.raises(HostValueNeededError):
        make_backend("toy").prepare(model).run([X, np.ones(4097, np.int64)])


def test_nothing_is_bound_when_folding_would_be_the_whole_computation(toy):
    node = onnx.helper.make_node("Range", ["start", "limit", "delta"], ["y"])
    with pytest.raises(HostValueNeededError):
        make_backend("toy").run_node(node, [np.array(0), np.array(5), np.array(1)])


def test_free_sizes_are_written_in_once_for_each_size(toy):
    port = onnx.helper.make_tensor_value_info("x", 1, ["n"])
    out = onnx.helper.make_tensor_value_info("y", 1, ["n"])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [port], [out])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    ready = make_backend("toy").prepare(model)
    for size in (2, 6, 2):
        assert ready.run(X[:size])["y"].shape == (size,)
    assert len(toy.lowered) == 2


def test_refusal_that_no_input_changes_comes_while_preparing(toy, monkeypatch):
    def refuse(model, device=None):
        raise UnsupportedError("no")

    monkeypatch.setattr(toy, "lower", refuse)
    model, _ = backend_module.node_model(onnx.helper.make_node("Relu", ["x"], ["y"]), [X])
    with pytest.raises(UnsupportedError):
        make_backend("toy").prepare(model)
    assert not make_backend("toy").is_compatible(model)


def test_run_node_takes_opset_and_output_types(toy):
    backend = make_backend("toy")
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    assert backend.run_node(node, [X], opset_version=11)[0] == pytest.approx(X)
    assert backend.run_node(node, X, outputs_info=[(np.float32, (6,))])["y"] == pytest.approx(X)
    assert [model.opset for model in toy.lowered] == [11, onnx.defs.onnx_opset_version()]


@pytest.mark.parametrize("inputs", [[], [X, X], {"z": X}, {"x": X, "z": X}])
def test_wrong_inputs_are_told(toy, inputs):
    model, _ = backend_module.node_model(onnx.helper.make_node("Relu", ["x"], ["y"]), [X])
    with pytest.raises(InputError, match="run: got"):
        make_backend("toy").prepare(model).run(inputs)


def test_devices_by_the_standards_names(toy):
    assert make_backend("toy").supports_device("CPU")
    assert not make_backend("toy").supports_device("CUDA:0")


# ---- child processes


class FakeChild(_Child):
    """A child that runs ``script`` in place of the suite."""

    def __init__(self, script, limit_s):
        super().__init__("none", limit_s)
        self.script = script

    def _command(self):
        return [sys.executable, "-c", "print('ready', flush=True); input(); " + self.script]


def test_process_that_dies_costs_one_case():
    with FakeChild("import os; os.abort()", 30) as child:
        outcomes = [child.run(find_case(name)) for name in ("test_relu", "test_abs")]
    assert [o.status for o in outcomes] == ["crashed", "crashed"]
    assert "the process died" in outcomes[0].reason


def test_case_that_hangs_is_ended():
    start = time.monotonic()
    with FakeChild("import time; time.sleep(60)", 1.0) as child:
        outcome = child.run(find_case("test_relu"))
    assert (outcome.status, outcome.reason) == ("crashed", "no end within 1 s")
    assert time.monotonic() - start < 55
