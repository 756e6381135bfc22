"""The report page, curves, comparison and recipe, of runs made by hand."""

import base64
import io
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import portnet
from portnet.adapter import OptimizerSpec
from portnet.cli.app import app
from portnet.data.augment import Augment
from portnet.drawing.axes import Axes
from portnet.drawing.curves import Curves, plot_curves
from portnet.drawing.png import PngCanvas
from portnet.errors import InputError, MissingDependencyError, OutputError, UnknownNameError
from portnet.finetuning import api
from portnet.finetuning.comparing import compare
from portnet.finetuning.folder import RunFolder
from portnet.finetuning.freeze import FreezePolicy
from portnet.finetuning.head import Head
from portnet.finetuning.history import Epoch, History
from portnet.finetuning.metrics import evaluate_logits
from portnet.finetuning.presenting import write_report
from portnet.finetuning.recipe import recipe
from portnet.finetuning.run import Run
from portnet.finetuning.schedule import Schedule
from portnet.finetuning.settings import Settings
from portnet.parity.report import Comparison, Report, Tolerance
from portnet.report.html import Html, join, tag
from portnet.report.page import Content, render

HOSTILE = "<script>alert(1)</script>\"'&\x00\x1b\u202e\udcff"
BACKBONE = portnet.Backbone.of("squeezenet1_1", weights=None, size=48)


def made(classes=("cat", "dog", "emu"), *, epochs=3, settings=None, folder=None, **record):
    """Return a run that was never trained, and its record as training writes it."""
    settings = settings or Settings("squeezenet1_1", weights=None, epochs=3, batch_size=8)
    model = settings.head.attach(BACKBONE, classes)
    model.preprocessing = BACKBONE.model.preprocessing
    history = History(
        [Epoch(i, 1 / (i + 1), 0.5 + 0.1 * i, 1.1 / (i + 1), 0.4 + 0.1 * i, 1e-3, 2.0, 50.0) for i in range(epochs)],
        [1.5 / (i + 1) for i in range(4 * epochs)],
    )
    columns = ("index", "layer", "stage", "parameters", "trainable", "lr_mult")
    whole = {
        "schema": 1,
        "settings": settings.to_dict(),
        "environment": {"portnet": "0.1.0", "python": "3.11", "torch": "2.13.0"},
        "data": {
            "source": "photos",
            "classes": list(classes),
            "train": dict.fromkeys(classes, 10),
            "val": dict.fromkeys(classes, 2),
            "skipped": [],
            "digest": ["a" * 64, "b" * 64],
        },
        "backbone_provenance": {"architecture": "squeezenet1_1"},
        "preprocessing": {"size": [48, 48]},
        "policy": [dict(zip(columns, row, strict=True)) for row in settings.freeze.resolve(model).as_rows()],
        "frozen_proof": {"frozen_initializers": 50, "sha256_before": "c" * 64, "sha256_after": "c" * 64},
        "history": history.to_dict(),
        "interrupted": False,
        **record,
    }
    if folder is not None:
        folder.mkdir()
        RunFolder(folder).write_record(whole)
        model.save(folder / "model.onnx")
    return Run(model, history, settings, whole, folder=folder)


@pytest.fixture
def agreed(monkeypatch):
    """Let every check pass, with numbers to look for: no engine is needed here."""
    found = Report("torch", "onnxruntime cpu", Tolerance(), [Comparison("logits", "random", "", 3e-6, 1e-7, 1.0)])
    monkeypatch.setattr(Run, "check", lambda self: found)
    return found


class Page(HTMLParser):
    """What a browser would see: elements, attributes that load something, and whether tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.open, self.text, self.images = [], [], [], "", []
        self.feed(text)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, name, attributes):
        self.tags.append(name)
        for key, value in attributes:
            assert not key.startswith("on"), key
            if key in ("src", "href", "srcset", "data", "action", "xlink:href", "poster"):
                self.loads.append(value)
            if name == "img" and key == "src":
                self.images.append(value)
        if name not in ("meta", "img", "br"):
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.handle_starttag(name, attributes)
        if self.open and name not in ("meta", "img", "br"):
            self.open.pop()

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        self.text += data


def check_page(text):
    """Assert that a page runs nothing and fetches nothing; return what is on it."""
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & set(page.tags)
    assert all(value.startswith(("#", "data:image/jpeg;base64,")) for value in page.loads)
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text.replace("&#x27;", "'")
    return page


def test_the_page_of_a_run(tmp_path, digits, agreed):
    run = made(("0", "1", "7"))
    path = run.report(tmp_path / "report.html", digits, ambiguous=5, mistakes=7)
    page = check_page(path.read_text(encoding="utf-8"))
    result = portnet.finetuning.run.evaluate(_Network(run), run.model, digits)
    wrong = int(result.confusion.sum() - np.trace(result.confusion))
    assert len(page.images) == 5 + min(7, wrong)
    for uri in page.images:
        with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
            assert image.format == "JPEG"
            assert max(image.size) <= 224
    for number in (f"{result.accuracy:.2%}", f"{result.calibration_error:.2%}", f"{wrong} of 60 images"):
        assert number in page.text
    for word in ("3.0e-06", "c" * 64, "bit-identical", "head.conv", "2.13.0", "portnet.finetune(", "3.00e-06"):
        assert word in page.text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


class _Network:
    def __init__(self, run):
        self.predict = run.session.logits


def test_the_checker_of_pages_sees_what_it_is_for():
    policy = "<meta content=\"default-src 'none'\">"
    check_page(f"<p>fine</p>{policy}")
    for bad in (
        "<script></script>",
        '<img src="https://example.org/a.png">',
        '<a href="https://example.org">x</a>',
        '<p onclick="x()">a</p>',
        "<p><b>a</p>",
        "<style>p { background: url(a.png) }</style>",
    ):
        with pytest.raises(AssertionError):
            check_page(bad + policy)


def test_a_page_without_test_images_says_what_there_is(tmp_path, agreed):
    page = check_page(made().report(tmp_path / "report.html").read_text())
    assert page.images == []
    assert "Confusion" not in page.text
    assert "validation accuracy" in page.text


def test_names_and_paths_are_text_and_nothing_else(tmp_path, agreed):
    classes = (HOSTILE, "dog", "emu")
    run = made(classes, environment={"portnet": HOSTILE, "torch": HOSTILE})
    run.record["data"] |= {"source": HOSTILE, "skipped": [[HOSTILE, HOSTILE]]}
    run.record["policy"][0]["layer"] = HOSTILE
    evaluation = evaluate_logits(np.eye(3, dtype=np.float32), np.array([1, 2, 0]), classes)
    evaluation = type(evaluation)(**{**evaluation.__dict__, "images": (HOSTILE, HOSTILE, HOSTILE)})
    path = write_report(run, tmp_path / "r.html", evaluation, HOSTILE, ambiguous=3, mistakes=3)
    text = path.read_text(encoding="utf-8")
    page = check_page(text)
    assert "<script>alert(1)</script>" in page.text
    assert not re.search("[\x00\x1b\u202e]", text)
    assert "cannot read" in page.text  # the images are not there: said in their place


@pytest.mark.parametrize("classes", [2, 40, 120, 400])
def test_few_and_many_classes(agreed, tmp_path, classes):
    names = tuple(f"class {i}" for i in range(classes))
    random = np.random.default_rng(0)
    labels = np.arange(800) % classes
    logits = random.normal(0, 1, (800, classes)).astype(np.float32)
    logits[np.arange(800), labels] += 3
    evaluation = evaluate_logits(logits, labels, names)
    text = write_report(made(names), tmp_path / "r.html", evaluation, "", ambiguous=3, mistakes=3).read_text()
    page = check_page(text)
    assert "Confused most" in page.text
    assert "no image" in page.text
    cells = text.count(f"class {classes - 1}: ")
    assert cells == (0 if classes > 250 else np.count_nonzero(evaluation.confusion[-1]))
    assert len(text) < 3e6


def test_nothing_wrong_and_nothing_frozen_is_said(agreed, tmp_path):
    run = made(frozen_proof={"frozen_initializers": 0, "sha256_before": "", "sha256_after": ""})
    evaluation = evaluate_logits(9 * np.eye(3, dtype=np.float32), np.arange(3), ("cat", "dog", "emu"))
    page = check_page(write_report(run, tmp_path / "r.html", evaluation, "", ambiguous=1, mistakes=9).read_text())
    assert "every image was called by its name" in page.text
    assert "Nothing was frozen" in page.text
    assert "frozen part unchanged" not in page.text


def test_what_was_frozen_in_a_phase_alone_is_told(agreed, tmp_path):
    phase = {
        "from_epoch": 1,
        "policy": "backbone",
        "frozen_initializers": 50,
        "sha256_before": "a",
        "sha256_after": "a",
    }
    proof = {"frozen_initializers": 0, "sha256_before": "", "sha256_after": ""}
    for after, badge, verdict in (
        ("a", "frozen part unchanged", "bit-identical"),
        ("b", "frozen part moved", "NOT the"),
    ):
        run = made(frozen_proof={**proof, "phases": [{**phase, "sha256_after": after}]})
        text = write_report(run, tmp_path / "r.html", None, "", ambiguous=1, mistakes=1).read_text()
        assert "Nothing was frozen:" not in text
        assert badge in text
        assert verdict in text


def test_what_is_bad_is_shown_as_bad(tmp_path, monkeypatch):
    proof = {"frozen_initializers": 2, "sha256_before": "c" * 64, "sha256_after": "d" * 64}
    run = made(epochs=0, interrupted=True, frozen_proof=proof)
    report = Report("torch", "onnxruntime", Tolerance(), problems=["an output is missing"], first_divergence="conv1")
    monkeypatch.setattr(Run, "check", lambda self: report)
    page = check_page(run.report(tmp_path / "report.html").read_text())
    for word in (
        "frozen part moved",
        "NOT the same",
        "onnxruntime differs",
        "an output is missing",
        "conv1",
        "interrupted",
    ):
        assert word in page.text
    assert "Not one step was taken" in page.text


def test_a_report_where_the_engine_is_not_installed(tmp_path, monkeypatch):
    def missing(self):
        raise MissingDependencyError("engine torch is not installed")

    monkeypatch.setattr(Run, "check", missing)
    page = check_page(made().report(tmp_path / "report.html").read_text())
    assert "Not checked: engine torch is not installed" in page.text
    assert "parity not checked" in page.text


def test_a_report_that_cannot_be_written_leaves_nothing(tmp_path, agreed):
    with pytest.raises(OutputError):
        made().report(tmp_path / "nowhere" / "report.html")
    assert not list(tmp_path.iterdir())


def test_elements_escape_what_is_not_html():
    assert tag("td", "1 < 2", class_="number") == '<td class="number">1 &lt; 2</td>'
    assert tag("p", tag("b", "x"), None, title='"') == '<p title="&quot;"><b>x</b></p>'
    assert tag("details", open=True, id=None) == "<details open></details>"
    assert join(Html("<i>"), "<i>") == "<i>&lt;i&gt;"


# ---- curves


def curves(name="torch", epochs=3, **changes):
    values = {
        "loss": [1 / (i + 1) for i in range(epochs)],
        "accuracy": [0.5] * epochs,
        "val_loss": [None] * epochs,
        "val_accuracy": [None] * epochs,
        "steps": [1.0] * (4 * epochs),
        "steps_per_epoch": 4,
    }
    return Curves(name, **{**values, **changes})


def test_curves_are_where_their_values_are(tmp_path):
    root = ET.parse(made().plot(tmp_path / "curves.svg")).getroot()
    points = {title.text: rect for rect in root.iter() for title in rect if title.tag.endswith("title")}
    assert len(points) == 4 * 3
    first, last = (points[f"epoch {i}: training accuracy {value:.2%}"] for i, value in ((1, 0.5), (3, 0.7)))
    x, y = ([float(each.get(key)) for each in (first, last)] for key in "xy")
    axes = Axes(564, 62, 424, 222, (0, 3), (0, 1))
    assert x[1] - x[0] == pytest.approx(axes.at(3, 0)[0] - axes.at(1, 0)[0], abs=0.02)
    assert y[0] - y[1] == pytest.approx(axes.at(0, 0.5)[1] - axes.at(0, 0.7)[1], abs=0.02)


@pytest.mark.parametrize(
    "runs",
    [
        [curves(epochs=1)],
        [curves(steps=[], epochs=2)],
        [curves(epochs=0, steps=[2.0, 1.0])],
        [curves(loss=[0.0] * 3, steps=[0.0] * 12, accuracy=[1.0] * 3)],
        [curves(steps=np.linspace(5, 1, 5000).tolist(), steps_per_epoch=1667)],
        [curves("torch"), curves("keras"), curves(HOSTILE, epochs=2)],
    ],
)
def test_curves_of_all_kinds_of_runs(tmp_path, runs):
    text = plot_curves(runs, tmp_path / "a.svg").read_text()
    ET.fromstring(text)
    assert "nan" not in text
    with Image.open(plot_curves(runs, tmp_path / "a.png")) as image:
        assert image.size == (2048, 700)


def test_curves_that_cannot_be_drawn(tmp_path):
    with pytest.raises(InputError, match="not taken one step"):
        plot_curves([curves(epochs=0)], tmp_path / "a.svg")
    with pytest.raises(InputError, match="7 runs"):
        plot_curves([curves()] * 7, tmp_path / "a.svg")
    with pytest.raises(UnknownNameError, match="pdf"):
        made().plot(tmp_path / "a.pdf")
    with pytest.raises(InputError, match="svg"):
        PngCanvas(1e5, 1e5)


# ---- comparison and recipe


def test_runs_differ_in_what_differs(tmp_path):
    other = Settings("squeezenet1_1", weights=None, epochs=3, batch_size=8, seed=4, freeze=FreezePolicy.until("fire5"))
    runs = {"a": made(folder=tmp_path / "a"), "b": made(settings=other, folder=tmp_path / "b", epochs=2)}
    found = compare(runs)
    assert found.differences == {
        "freeze.kind": ["none", "until"],
        "freeze.argument": ["", "fire5"],
        "seed": [0, 4],
    }
    assert found.results["epochs"] == [3, 2]
    assert found.results["loss"] == [runs["a"].history[-1].loss, 0.5]
    assert found.results["best val accuracy"] == pytest.approx([0.6, 0.5])
    runs["b"].record["best"] = {"step": 4, "epoch": 1.0, "loss": 0.7, "accuracy": 0.45}  # these weights were restored
    assert compare(runs).results["val loss"] == pytest.approx([1.1 / 3, 0.7])
    assert compare(runs).results["val accuracy"] == pytest.approx([0.6, 0.45])
    trained = other.freeze.resolve(runs["b"].model).trainable_count
    assert found.results["parameters that train"] == [runs["a"].model.parameter_count, trained]
    folders = [str(tmp_path / name) for name in "ab"]
    plotted = CliRunner().invoke(app, ["compare", *folders, "--json", "--plot", str(tmp_path / "c.svg")])
    assert json.loads(plotted.stdout)["differences"] == found.differences
    ET.parse(tmp_path / "c.svg")
    assert "until" in CliRunner().invoke(app, ["compare", *folders]).stdout
    with pytest.raises(InputError, match="two or more"):
        compare({"a": runs["a"]})


@pytest.mark.parametrize(
    "settings",
    [
        Settings("squeezenet1_1", optimizer=OptimizerSpec("adam", momentum=0.0)),
        Settings("resnet18", weights=None, backend="keras", head=Head.mlp((64, 32)), epochs=7, size=64),
        Settings("a.onnx", freeze=FreezePolicy.first(16, lr_mult={"head": 10}, batch_norm="frozen"), crop=True),
        Settings("squeezenet1_1", optimizer=OptimizerSpec("sgd", nesterov=True), augment=Augment(translate=3.0)),
        Settings("squeezenet1_1", schedule=Schedule("step", step_size=5), class_weights=(1.0, 2.0), seed=9),
    ],
)
def test_the_recipe_has_the_settings_it_came_from(monkeypatch, settings):
    started = []
    monkeypatch.setattr(api, "start_run", lambda data, settings, **options: started.append((data, settings)))
    exec(recipe(settings, "photos/it's here"), {})
    assert started == [("photos/it's here", settings)]


def test_every_setting_of_a_run_can_be_given_again():
    text = recipe(Settings("squeezenet1_1", optimizer=OptimizerSpec("adam", momentum=0.0)), None)
    assert text == "import portnet\n\nportnet.finetune(\n    data,\n)"


def test_a_page_is_one_and_the_same(agreed):
    run = made()
    content = Content(run.record, run.curves(), recipe(run.settings, None), agreed)
    assert render(content) == render(content)


@pytest.mark.parametrize(("classes", "expected"), [(2, False), (5, False), (6, True)])
def test_top5_is_shown_where_it_says_something(classes, expected):
    labels = np.arange(12) % classes
    found = evaluate_logits(np.eye(classes, dtype=np.float32)[labels], labels, tuple(map(str, range(classes))))
    assert ("top-5" in str(found)) is expected
    assert found.to_dict()["top5"] == 1.0
