"""What a person looks at: nothing cut, nothing over another thing, numbers that are none, other alphabets."""

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFont

from portnet.cli.output import print_table
from portnet.data.augment import Augment
from portnet.data.dataset import Dataset
from portnet.data.skipped import Skipped
from portnet.drawing import fonts
from portnet.drawing.axes import ticks, top_for
from portnet.drawing.confusion import ConfusionSheet
from portnet.drawing.contact import Tile, contact_sheet
from portnet.drawing.curves import PANEL, Curves, draw_panels, plot_curves
from portnet.drawing.network import plot_network
from portnet.drawing.svg import SvgCanvas
from portnet.drawing.text import width, wrap
from portnet.finetuning.head import Head
from portnet.finetuning.history import Position
from portnet.finetuning.progress import ConsoleReporter
from portnet.finetuning.recipe import recipe
from portnet.finetuning.sets import Sets
from portnet.finetuning.settings import Settings
from portnet.sources import find_model

FORTY = "a_class_with_forty_characters_in_its_nam"
DIVERGED = Curves(
    "torch",
    loss=[2.0, 5.6],
    accuracy=[0.1, 0.1],
    val_loss=[3.0, float("nan")],
    val_accuracy=[0.1, 0.0],
    steps=[1.0, 3.0, 5.7, 5.5],
    steps_per_epoch=2,
    validations=[(1.0, 3.0, 0.1), (2.0, float("nan"), 0.0)],
)


def texts(svg: str) -> list[str]:
    return [element.text for element in ET.fromstring(svg).iter() if element.tag.endswith("text")]


@pytest.mark.parametrize(
    "text", [FORTY, "Ägyptische Mau – sehr lange Bezeichnung!!", "word", "", "x" * 90, "two words", "y" * 4000]
)
def test_a_name_goes_on_below_and_only_what_is_left_then_is_cut(text):
    lines = wrap(text, 20, 3, len)
    assert all(len(line) <= 20 for line in lines)
    assert len(lines) <= 3
    if len(text) <= 45:
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    else:
        assert lines[-1].endswith("…")


def test_a_sheet_is_as_high_as_its_captions(tmp_path):
    image = Image.new("RGB", (30, 60), (9, 9, 9))
    short = [Tile(image, (("image 1", "0.9"), ("cat", "48%")))] * 3
    long = [*short[:2], Tile(image, (("image 1", "0.9"), (FORTY, "48%")))]
    heights = []
    for tiles in (short, long):
        with Image.open(contact_sheet(tiles, tmp_path / "a.png", columns=2)) as sheet:
            heights.append(sheet.height)
    assert heights[1] - heights[0] == 19


def test_a_character_is_drawn_in_a_font_that_has_it(monkeypatch):
    usual, wide = (ImageFont.load_default(size) for size in (14, 28))
    monkeypatch.setattr(fonts, "_usual", lambda size, bold: usual)
    monkeypatch.setattr(fonts, "_font", lambda name, size: wide)
    monkeypatch.setattr(fonts, "_has", lambda font, character: font is wide and character == "é")
    fonts._font_of.cache_clear()
    try:
        assert fonts._pieces("cafés 猫", 14, False) == [(usual, "caf"), (wide, "é"), (usual, "s ?")]
        assert fonts.text_width("é", 14) == wide.getlength("é")
    finally:
        fonts._font_of.cache_clear()


def test_what_no_font_has_is_a_question_mark():
    assert fonts.text_width("\U000f1234", 14) == fonts.text_width("?", 14)


def test_a_loss_that_is_no_number_has_no_place_in_a_drawing(tmp_path):
    svg = plot_curves([DIVERGED], tmp_path / "a.svg").read_text()
    assert "nan" not in svg
    assert svg.count("validation loss 3.0000") == 1
    assert svg.count("validation accuracy") == 2
    plot_curves([DIVERGED], tmp_path / "a.png")


@pytest.mark.parametrize("value", [5.6, 1.0, 14.8, 3e-4, 0.0, 699.0])
def test_an_axis_ends_at_a_tick_above_its_curves(value):
    top = top_for(value)
    assert value <= top <= max(2.5 * value, 1.0)
    assert ticks(0, top)[-1] == pytest.approx(top)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 6.3), (0.7, 1), (0, 1e-4), (0, 12345), (3, 3)])
def test_ticks_are_round_and_inside(low, high):
    found = ticks(low, high)
    assert 1 <= len(found) <= 6
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    if len(found) > 1:
        step = found[1] - found[0]
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
        assert min(abs(mantissa - round_step) for round_step in (1, 2, 5, 10)) < 1e-6


def test_no_step_of_a_short_run_is_beyond_the_axis(tmp_path):
    path = plot_curves([DIVERGED], tmp_path / "a.svg")
    assert "6" in texts(path.read_text())


@pytest.mark.parametrize(("shift", "most"), [(0.0, 8.0), (0.5, 1.8)])
def test_lines_are_thick_only_where_they_would_hide_each_other(tmp_path, shift, most):
    steps = [2.0 - i / 500 for i in range(500)]
    runs = [
        Curves(str(n), [1.0] * 5, [0.5] * 5, [None] * 5, [None] * 5, [step + shift * n for step in steps], 100)
        for n in range(6)
    ]
    svg = plot_curves(runs, tmp_path / "a.svg").read_text()
    widths = {float(width) for width in re.findall(r'stroke-width="([\d.]+)"', svg)} - {3.0}  # but the legend's
    assert max(widths) <= most + 2
    assert (len(widths - {1.0}) == 6) == (shift == 0)
    assert any("means of up to 5 steps" in text for text in texts(svg))


def test_a_run_is_drawn_in_two_parts_that_a_phone_shows_below_each_other():
    panels = [SvgCanvas(PANEL, 350, label=name) for name in ("loss", "accuracy")]
    draw_panels(DIVERGED, *panels)
    for panel in panels:
        found = panel.fragment()
        assert {"training", "validation"} <= set(texts(found))
        assert max(float(x) for x in re.findall(r'\bx="(\d+)', found)) < PANEL < 420


@pytest.mark.parametrize("count", [3, 30, 101])
def test_classes_of_a_confusion_matrix_are_named_in_full_and_apart(count):
    names = [f"{i:03d}{FORTY[3:]}" for i in range(count)]
    sheet = ConfusionSheet(np.eye(count, dtype=np.int64), names)
    canvas = SvgCanvas(sheet.width, sheet.height)
    sheet.draw(canvas)
    svg = canvas.document()
    assert sheet.width <= 1024
    assert [text for text in texts(svg) if text in names] == [name for name in names for _ in range(2)]
    rows = [e for e in ET.fromstring(svg).iter() if e.text in names and "transform" not in e.attrib]
    size = float(rows[0].get("font-size"))
    tops = [float(row.get("y")) for row in rows]
    assert min(np.diff(tops)) >= 0.95 * size
    assert all(float(row.get("x")) - width(row.text, size) > 18 for row in rows)


def test_names_of_squeezenet_are_whole(tmp_path):
    model = find_model("squeezenet1_1", weights=None, size=None)
    svg = plot_network(model, tmp_path / "net.svg").read_text()
    assert "features.12.expand3x3" in texts(svg)
    assert "…" not in svg


def test_images_left_out_are_named_shortly_and_not_by_the_thousand():
    items = tuple(Skipped(f"a/{i}.jpg", f"cannot read image 'a/{i}.jpg': not an image") for i in range(40))
    train = Dataset(("a.png", "b.png"), np.array([0, 1]), ("a", "b"), items)
    lines = Sets(train).describe_skipped()
    assert lines[0] == "skipped a/0.jpg: not an image"
    assert lines[10:] == ["skipped 30 more; run.json names them all"]
    assert len(Sets(replace(train, skipped=items[:11])).describe_skipped()) == 11


def test_the_recipe_tells_what_is_not_usual():
    text = recipe(Settings("squeezenet1_1", augment=Augment(translate=3.0), head=Head.mlp((8,))), "photos")
    assert "augment=Augment(translate=3.0)," in text
    assert "head=portnet.Head(kind='mlp', hidden=(8,), dropout=0.5, batch_norm=True)," in text


def test_a_table_in_a_pipe_has_a_line_a_row(capsys):
    print_table(("path", "class"), [("photos/" + "x" * 300, FORTY), ("b", "c")])
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_bar_of_the_second_epoch_knows_how_long_it_takes():
    reporter = ConsoleReporter()
    for epoch in (0, 1):
        for batch in (1, 2, 3):
            if (epoch, batch) != (1, 3):
                reporter.step(Position(epoch, batch, 1.0, 1, 2), 3, 0.5)
    bar = reporter._progress.tasks[0]
    assert (bar.completed, bar.finished, bar.description) == (2, False, "epoch 2")
