"""Runs a generated file as somebody would who has torch alone: in a fresh process where PortNet cannot be imported."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from portnet.errors import ParityError

__all__ = ["Alone"]

# for each line that it reads, it runs the network once
_RUNNER = """
import importlib.util, sys
sys.modules.update(dict.fromkeys(("portnet", "portnet_torch", "safetensors")))
import torch
spec = importlib.util.spec_from_file_location("network", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
network = module.load()
for _ in sys.stdin:
    with torch.inference_mode():
        torch.save(network(*torch.load("inputs.pt", weights_only=True)), "outputs.pt")
    print("done", flush=True)
"""


class Alone:
    """The network of a generated file, in a process of its own that ends with this object.

    Args:
        source: a file whose ``load()`` returns the network.
    """

    def __init__(self, source: Path) -> None:
        self._name = source.name
        self._folder = tempfile.TemporaryDirectory(prefix="portnet-")
        self._at = Path(self._folder.name)
        with open(self._at / "errors.txt", "w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _RUNNER, str(source.absolute())],
                cwd=self._at,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def __call__(self, *tensors: Any) -> Any:
        """Run the network once.

        Raises:
            ParityError: the file does not load, or the network does not run; with the last line of its errors.
        """
        torch.save(tensors, self._at / "inputs.pt")
        answer = ""
        with contextlib.suppress(OSError):  # the process may be gone
            print(file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()  # type: ignore[union-attr]
        if answer != "done\n":
            self._process.kill()
            said = (self._at / "errors.txt").read_text().strip().splitlines() or ["it says nothing"]
            raise ParityError(f"{self._name} does not run in a process of its own: {said[-1]}")
        return torch.load(self._at / "outputs.pt", weights_only=True)

    def __del__(self) -> None:
        if process := getattr(self, "_process", None):
            process.kill()
            process.communicate()
            self._folder.cleanup()
