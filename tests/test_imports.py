"""What importing PortNet costs, and what its public names are."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import portnet

HEAVY = ["torch", "tensorflow", "keras", "mxnet", "onnxruntime", "onnx_ir", "onnx", "numpy", "sklearn", "PIL"]


def loaded(code):
    script = f"import sys\n{code}\nprint(*[m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return result.stdout.split("\n")[-2].split()


def test_import_loads_nothing():
    assert loaded("import portnet") == []


def test_help_loads_nothing_heavy():
    code = "sys.argv=['portnet','--help']\nfrom portnet.cli import main\ntry: main()\nexcept SystemExit: pass"
    assert loaded(code) == []


def test_engines_are_found_without_importing_them():
    assert loaded("from portnet.engines import installed; assert 'torch' in installed()") == []


def test_a_missing_framework_is_one_line_that_names_the_extra():
    code = "import sys; sys.modules['mxnet'] = None\nimport portnet\nportnet.engine('gluon')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = result.stderr.strip().splitlines()[-1]
    assert "MissingDependencyError" in last
    assert "portnet[gluon]" in last


def test_modules_are_at_hand_without_an_import_of_their_own():
    assert loaded("import portnet; portnet.errors.DataError; assert not hasattr(portnet, 'nothing')") == []


# keys of a file's metadata, and the group of entry points
NO_PYTHON = {"portnet.labels", "portnet.preprocessing", "portnet.backbone", "portnet.provenance", "portnet.engines"}


def test_what_the_docs_call_by_name_is_there():
    text = "\n".join(Path(path).read_text() for path in ["README.md", *map(str, Path("docs").glob("*.md"))])
    names = set(re.findall(r"(?<![\w/:.-])portnet(?:\.[a-zA-Z_]\w*)+", text)) - NO_PYTHON
    assert {"portnet.convert", "portnet.finetuning.api.resume"} <= names
    for name in names:
        found = pkgutil.resolve_name(name)
        assert found is not None, name


def test_public_names():
    assert len(portnet.__all__) <= 15
    for name in portnet.__all__:
        assert getattr(portnet, name) is not None
    # a submodule of the same name would take the place of a public function once it is imported
    for name in ("finetune", "convert", "check", "load", "preprocess", "engine"):
        assert callable(getattr(portnet, name))
