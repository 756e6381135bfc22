"""PortNet's PyTorch engine: an ONNX graph becomes a `torch.fx.GraphModule` of native layers.

torch is imported when a method first needs it, not with this package.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from portnet.adapter import Adapter, FileFormat, before_torch

if TYPE_CHECKING:
    from portnet.adapter import CaptureOptions, Lowered, Reloaded
    from portnet.formats.captured import Captured, Source
    from portnet.graph.model import Model

__all__ = ["Engine"]


class Engine(Adapter):
    """PyTorch as an engine."""

    name = "torch"
    framework = "PyTorch"
    compiles = True
    fixed_ranks = False
    formats = {  # noqa: RUF012 - declared by the base class
        "pt2": FileFormat((".pt2",), "a program of torch.export, for inference"),
        "safetensors": FileFormat((".safetensors",), "a state_dict"),
        "code": FileFormat(("", ".py"), "a folder with model.py, which needs torch alone, and weights.safetensors"),
    }
    sources = {  # noqa: RUF012 - declared by the base class
        "torchvision:": "a network of torchvision by name; ?weights=DEFAULT behind it takes the published weights",
        "timm:": "a network of timm by name; ?weights=pretrained behind it takes the published weights",
        ".pt2": "a program that torch.export.save wrote",
        ".pt": "says how to save what only code can open as .pt2",
        ".pth": "says how to save what only code can open as .pt2",
    }

    @property
    def ops(self) -> frozenset[str]:
        """Names of the ops that have a builder in `portnet_torch.ops`."""
        from portnet_torch.ops import TABLE

        return frozenset(TABLE)

    def version(self) -> str:
        """Version of torch, e.g. ``2.13.0+cpu``."""
        import torch

        return str(torch.__version__)

    def devices(self) -> list[str]:
        """CUDA devices that torch sees, then "cpu"."""
        import torch

        return [f"cuda:{index}" for index in range(torch.cuda.device_count())] + ["cpu"]

    def about(self, device: str) -> dict[str, str]:
        """Which GPU it is, and how CUDA's libraries compute on it."""
        if device == "cpu":
            return {}
        from portnet_torch.exact import about

        return about(device)

    def precisions(self, device: str) -> tuple[str, ...]:
        """Mixed precision by autocast: bf16 everywhere, on CUDA also fp16 with scaled gradients, and TF32."""
        return ("fp32", "tf32", "bf16", "fp16") if device.startswith("cuda") else ("fp32", "bf16")

    def lower_canonical(self, model: Model, device: str) -> Lowered:
        """Lower a canonical model onto torch; see `portnet_torch.lower`."""
        before_torch()
        from portnet_torch.lower import lower

        return lower(model, device)

    def write(self, lowered: Lowered, path: Path, form: str) -> list[Path]:
        """Write a network in one of `formats`; see `portnet_torch.save`."""
        from portnet_torch.save import write

        return write(lowered, path, form)  # type: ignore[arg-type]

    def reload(self, lowered: Lowered, path: Path, form: str) -> Reloaded:
        """Read with torch what `write` wrote; see `portnet_torch.save`."""
        before_torch()
        from portnet_torch.save import reload

        return reload(lowered, path, form)  # type: ignore[arg-type]

    def owns(self, native: Any) -> bool:
        """Whether ``native`` is an nn.Module or an ExportedProgram; Keras's models on torch are Keras's."""
        classes = [(kind.__module__, kind.__name__) for kind in type(native).__mro__]
        if any(module.partition(".")[0] == "keras" for module, _ in classes):
            return False
        return ("torch.nn.modules.module", "Module") in classes or (
            "torch.export.exported_program",
            "ExportedProgram",
        ) in classes

    def open(self, source: str, weights: Path | None = None) -> Any:
        """Return what ``torchvision:NAME``, ``timm:NAME`` or a .pt2 means; see `portnet_torch.capturing.opening`."""
        before_torch()
        from portnet_torch.capturing.opening import open_network

        return open_network(source, weights)

    def capture(self, native: Any, options: CaptureOptions) -> tuple[Captured, Source]:
        """Return a network of torch as a `Model`; see `portnet_torch.capture`."""
        before_torch()
        from portnet_torch.capture import capture

        return capture(native, options)

    def is_out_of_memory(self, error: Exception) -> bool:
        """Whether it is CUDA's error of that name, or that of the allocator of the CPU, which has none."""
        import torch

        is_torchs = isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate" in str(error)
        return is_torchs or super().is_out_of_memory(error)

    def limit_threads(self, count: int) -> int | None:
        """Use at most ``count`` threads within one operation; return the count before."""
        import torch

        before: int = torch.get_num_threads()
        torch.set_num_threads(count)
        return before
