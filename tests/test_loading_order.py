"""Triton and TensorFlow in one process: whoever comes first, a network of torch trains, and no process dies of it.

A stand-in for Triton refuses to be loaded behind TensorFlow, as the real one does with a segmentation fault.
"""

import subprocess
import sys

import pytest

STAND_IN = """
import sys
if "tensorflow" in sys.modules:
    sys.exit("triton was loaded behind TensorFlow")
__version__ = "3.7.1"
"""

PORTNET_LOADS = """
import sys
import portnet
portnet.engine("keras").lower(portnet.zoo.load("squeezenet1_1", weights=None))
assert "tensorflow" in sys.modules and "triton" in sys.modules
portnet.engine("torch").lower(portnet.zoo.load("squeezenet1_1", weights=None))
"""

USER_LOADS = """
import sys
import tensorflow
import portnet
portnet.engine("torch").lower(portnet.zoo.load("squeezenet1_1", weights=None))
import torch._dynamo
from torch.utils._triton import has_triton_package
assert not has_triton_package()
"""


@pytest.mark.parametrize("script", [PORTNET_LOADS, USER_LOADS], ids=["keras-first", "user-imports-tensorflow"])
def test_triton_is_not_loaded_behind_tensorflow(script, tmp_path):
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "__init__.py").write_text(STAND_IN)
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{script}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-1500:]
