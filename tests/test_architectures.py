"""The table of architectures: rows are kept, counts and differences are what make one fail."""

import json
from dataclasses import asdict, replace

import pytest

import portnet
from portnet.testing.architecture_rows import Row, table
from portnet.testing.architectures import Yardstick, examine, main

GOOD = Row("torchvision:good", 64, 10, 1000, 1000, 1e-6, 2.0, {"keras": 2e-6, "gluon": 3e-6})
FADED = Row("torchvision:faded", 64, 10, 1000, 1000, 1e-6, 2.0, {"keras": "differs: off by 3", "gluon": 3e-6})


def test_a_row_passes_when_all_agree_and_nothing_is_lost():
    assert GOOD.passed
    assert not FADED.passed
    assert not replace(GOOD, expected=1001).passed
    assert not replace(GOOD, capture="cannot").passed
    text = table([GOOD, FADED])
    assert "| `torchvision:good` | 64 | 10 | 1,000 | 1.0e-06 | 2.0e-06 | 3.0e-06 |" in text
    assert "- `torchvision:faded`, keras: differs: off by 3" in text
    assert "1,000, expected 1,001" in table([replace(GOOD, expected=1001)])


def test_what_has_a_row_is_not_run_again(tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    out.write_text("".join(json.dumps(asdict(row)) + "\n" for row in (GOOD, FADED)))
    assert main(["torchvision:good", "--out", str(out)]) == 0
    (tmp_path / "names.txt").write_text("torchvision:good\ntorchvision:faded\n")
    assert main([f"@{tmp_path / 'names.txt'}", "--out", str(out)]) == 1
    assert "✗" in capsys.readouterr().out
    assert len(out.read_text().splitlines()) == 2


def test_an_architecture_is_examined():
    pytest.importorskip("torch")
    row = examine("torchvision:squeezenet1_1", [])
    assert row.passed, row
    assert (row.size, row.nodes, row.parameters) == (64, 66, 1_235_496)
    assert examine("torchvision:nothing", []).capture.startswith("unknown network of torchvision")


def test_a_kernel_that_is_a_little_wrong_is_seen():
    model = portnet.zoo.load("squeezenet1_1", weights=None)
    yardstick = Yardstick(model, GOOD)
    assert yardstick.compare(model, model) == 0
    name = "features.6.expand3x3.weight"
    wrong = model.with_weights({name: model.weights()[name] * 1.05})
    assert yardstick.compare(wrong, model).startswith("differs by ")
