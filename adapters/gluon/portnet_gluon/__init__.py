"""PortNet's MXNet Gluon engine: ONNX graphs as hybridized ``gluon.SymbolBlock`` networks.

Creating `Engine` imports nothing of MXNet; its methods do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portnet.adapter import Adapter, FileFormat

if TYPE_CHECKING:
    from portnet.adapter import CaptureOptions, Lowered, Reloaded, Source
    from portnet.formats.captured import Captured
    from portnet.graph.model import Model

__all__ = ["Engine"]


class Engine(Adapter):
    """MXNet Gluon 1.9.1, on CPU and, where MXNet was built for it, on CUDA."""

    name = "gluon"
    framework = "MXNet Gluon"
    formats = {  # noqa: RUF012 - declared by the base class
        "symbol": FileFormat(
            ("", "-symbol.json"), "PREFIX-symbol.json and PREFIX-0000.params, for SymbolBlock.imports"
        ),
    }

    sources = {  # noqa: RUF012 - declared by the base class
        "gluon:": "a network of gluon.model_zoo.vision by name, as in gluon:resnet18_v1",
    }

    # what MXNet was last told, as it cannot be asked
    _threads: int | None = None

    @property
    def ops(self) -> frozenset[str]:
        """Names of the ops it lowers itself."""
        from portnet_gluon.ops import TABLE

        return frozenset(TABLE)

    def version(self) -> str:
        """MXNet's version."""
        from portnet_gluon.compat import mx

        return str(mx.__version__)

    def devices(self) -> list[str]:
        """Devices that work here, best first."""
        from portnet_gluon.compat import mx

        return [*(f"gpu:{i}" for i in range(mx.context.num_gpus())), "cpu"]

    def why_no_precision(self, precision: str, device: str) -> str:
        """What stands in the way of MXNet's own mixed precision."""
        return "MXNet 1.9.1's conversion of a network to a smaller type loses the types behind it and fails at Dropout."

    def lower_canonical(self, model: Model, device: str) -> Lowered:
        """Lower a canonical model onto a hybridized SymbolBlock."""
        from portnet_gluon.network import GluonLowered

        return GluonLowered(model, device)

    def write(self, lowered: Lowered, path: Path, form: str) -> list[Path]:
        """Write symbol and parameters; see `portnet_gluon.save`."""
        from portnet_gluon.save import write

        return write(lowered, path, form)  # type: ignore[arg-type]

    def reload(self, lowered: Lowered, path: Path, form: str) -> Reloaded:
        """Read with MXNet what `write` wrote; see `portnet_gluon.save`."""
        from portnet_gluon.save import reload

        return reload(lowered, path, form)  # type: ignore[arg-type]

    def owns(self, native: Any) -> bool:
        """Whether it is a Gluon block, a module, or a symbol with its parameters; nothing is imported."""
        from portnet_gluon.native import owns

        return owns(native)

    def open(self, source: str, weights: Path | None = None) -> Any:
        """Return a network of MXNet's zoo, or the symbol and parameters of files; see `portnet_gluon.open`."""
        from portnet_gluon.open import open_network

        return open_network(source, weights)

    def capture(self, native: Any, options: CaptureOptions) -> tuple[Captured, Source]:
        """Capture a block, a module, or a symbol with its parameters; see `portnet_gluon.capture`."""
        from portnet_gluon.capture import capture

        return capture(native, options)

    def is_out_of_memory(self, error: Exception) -> bool:
        """Whether it is MXNet's error, which has one type for everything, and says so."""
        from portnet_gluon.compat import mx

        says_so = any(words in str(error) for words in ("out of memory", "Failed to allocate"))
        return (isinstance(error, mx.base.MXNetError) and says_so) or super().is_out_of_memory(error)

    def limit_threads(self, count: int) -> int | None:
        """Use at most ``count`` OpenMP threads in MXNet's operators; return the count before."""
        import ctypes

        from portnet_gluon.compat import mx

        # by itself MXNet takes what OpenMP is told, else every processor
        before = self._threads or int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        mx.base.check_call(mx.base._LIB.MXSetNumOMPThreads(ctypes.c_int(count)))
        self._threads = count
        return before
