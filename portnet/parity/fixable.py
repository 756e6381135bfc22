"""Lowering with advice: a refusal says which sizes to fix, where fixing sizes is all that the engine wants.

The advice is tried before it is given: the network is lowered once more, with sizes that onnxruntime runs it at.
"""

from __future__ import annotations

import contextlib
import shlex

from portnet.adapter import Adapter, Lowered
from portnet.errors import PortNetError, UnsupportedError
from portnet.graph.fix import fix_shapes
from portnet.graph.model import Model, Signature
from portnet.parity.inputs import fitting_inputs, is_batch
from portnet.runtime.session import Session

__all__ = ["lower_or_advise"]

Shapes = dict[str, tuple[int | None, ...]]


def lower_or_advise(adapter: Adapter, model: Model, device: str | None = None) -> Lowered:
    """Lower a model onto an engine.

    Raises:
        UnsupportedError: the engine cannot express it; where it can once sizes are fixed, the message says how.
    """
    adapter.check_device(device or "cpu")
    try:
        return adapter.lower(model, device=device)
    except UnsupportedError as error:
        shapes = _shapes_that_do(adapter, model)
        if shapes:
            words = " ".join(f"--shape {shlex.quote(f'{name}={_written(shape)}')}" for name, shape in shapes.items())
            error.args = (f"{error}. Fix the sizes that you need and it converts, e.g. {words} (Python: {shapes=})",)
        raise


def _shapes_that_do(adapter: Adapter, model: Model) -> Shapes | None:
    """Return sizes with which the engine takes the network, the batch left free if it can be; None if none do."""
    free = [port for port in model.inputs if port.shape and not all(isinstance(n, int) for n in port.shape)]
    if not free:
        return None
    with contextlib.suppress(PortNetError):
        sizes = {name: array.shape for name, array in fitting_inputs(model, 1, Session(model).run).items()}
        for keep_batch in (True, False):
            shapes = {port.name: _fixed(model, port, sizes[port.name], keep_batch) for port in free}
            shapes = {name: shape for name, shape in shapes.items() if any(shape)}
            with contextlib.suppress(UnsupportedError):
                adapter.lower(fix_shapes(model, shapes))
                return shapes
    return None


def _fixed(model: Model, port: Signature, sizes: tuple[int, ...], keep_batch: bool) -> tuple[int | None, ...]:
    return tuple(None if keep_batch and is_batch(model, port, axis) else size for axis, size in enumerate(sizes))


def _written(shape: tuple[int | None, ...]) -> str:
    return ",".join("?" if size is None else str(size) for size in shape)
