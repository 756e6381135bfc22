"""Recurrent layers and packed sequences while a network is traced: one operation each, of any length.

torch.export unrolls a recurrent layer over the steps of its example, and cannot trace packed sequences, whose sizes are
data. Here both become the operations ``portnet::lstm`` and ``portnet::rnn``, which know the lengths: sequences stay
padded, and what would be packed is (steps × batch, features), padding included.
"""

from __future__ import annotations

import contextlib
import threading
import types
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import rnn as packing

__all__ = ["recurrent_operations"]

_LIBRARY = torch.library.Library("portnet", "DEF")
_OPTIONS = "bool has_biases, int num_layers, float dropout, bool bidirectional, bool batch_first"
_SCHEMA = f"Tensor input, Tensor? lengths, Tensor[] states, Tensor[] params, {_OPTIONS}"
_LIBRARY.define(f"lstm({_SCHEMA}) -> (Tensor, Tensor, Tensor)")
_LIBRARY.define(f"rnn(str kind, {_SCHEMA}) -> (Tensor, Tensor)")


class Lengths:
    """Stands for a packed sequence's batch sizes: the lengths themselves."""

    device = torch.device("cpu")

    def __init__(self, lengths: Tensor, steps: Any) -> None:
        self.lengths, self.steps = lengths, steps

    def __getitem__(self, step: int) -> Any:
        """Return the batch, as the first of the batch sizes is."""
        return self.lengths.shape[0]


# torch's functions can stand for something else once at a time
_LOCK = threading.RLock()


@contextlib.contextmanager
def recurrent_operations() -> Iterator[None]:
    """Let ``nn.LSTM`` and its like, and packing, be operations of their own for a while, in this thread alone."""
    with _LOCK, _replaced():
        yield


@contextlib.contextmanager
def _replaced() -> Iterator[None]:
    tracing = _Tracing(_copy(packing.pack_padded_sequence), _copy(packing.pad_packed_sequence))
    functions = {packing.pack_padded_sequence: _pack, packing.pad_packed_sequence: _pad}
    codes = {function: function.__code__ for function in functions}
    checks = [(kind, kind.check_forward_args) for kind in (nn.RNNBase, nn.LSTM)]
    own = nn.modules.rnn._VF
    try:
        packing._portnet = tracing  # type: ignore[attr-defined]
        for function, ours in functions.items():  # bound by name in many a module, so only their code can be another
            function.__code__ = ours.__code__
        for kind, _ in checks:  # they make a number of the batch
            kind.check_forward_args = _unchecked(tracing, kind.check_forward_args)  # type: ignore[method-assign,assignment]
        nn.modules.rnn._VF = tracing
        yield
    finally:
        nn.modules.rnn._VF = own
        for kind, check in checks:
            kind.check_forward_args = check  # type: ignore[method-assign,assignment]
        for function, code in codes.items():
            function.__code__ = code
        del packing._portnet  # type: ignore[attr-defined]


def _copy(function: Any) -> Any:
    return types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )


def _unchecked(tracing: _Tracing, check: Any) -> Any:
    return lambda *given: None if tracing.is_here else check(*given)


def _pack(input, lengths, batch_first=False, enforce_sorted=True):  # type: ignore[no-untyped-def]
    if not _portnet.is_here:  # type: ignore[name-defined]  # noqa: F821
        return _portnet.own_pack(input, lengths, batch_first, enforce_sorted)  # type: ignore[name-defined]  # noqa: F821
    return _portnet.pack(input, lengths, batch_first)  # type: ignore[name-defined]  # noqa: F821


def _pad(sequence, batch_first=False, padding_value=0.0, total_length=None):  # type: ignore[no-untyped-def]
    if not _portnet.is_here:  # type: ignore[name-defined]  # noqa: F821
        return _portnet.own_pad(sequence, batch_first, padding_value, total_length)  # type: ignore[name-defined]  # noqa: F821
    return _portnet.pad(sequence, batch_first, padding_value, total_length)  # type: ignore[name-defined]  # noqa: F821


class _Tracing:
    """What replaces torch's functions of recurrent layers, the rest of which are its own.

    Another thread, which may train a recurrent layer meanwhile, goes on with torch's own.
    """

    def __init__(self, own_pack: Any, own_pad: Any) -> None:
        self.own_pack, self.own_pad = own_pack, own_pad
        self._thread = threading.get_ident()
        self._zero_padded: list[Tensor] = []

    @property
    def is_here(self) -> bool:
        """Whether it is the thread that traces which asks."""
        return threading.get_ident() == self._thread

    def __getattr__(self, name: str) -> Any:
        return getattr(torch._VF, name)

    def pack(self, input: Tensor, lengths: Any, batch_first: bool) -> packing.PackedSequence:
        """Return a padded batch as if it were packed."""
        if not isinstance(lengths, Tensor):
            lengths = torch.as_tensor(lengths, dtype=torch.int64)
        input = input.transpose(0, 1) if batch_first else input
        sizes: Any = Lengths(lengths, input.shape[0])
        return packing.PackedSequence(input.reshape(-1, *input.shape[2:]), sizes, None, None)

    def pad(
        self, sequence: packing.PackedSequence, batch_first: bool, padding_value: float, total_length: int | None
    ) -> tuple[Tensor, Tensor]:
        """Return a padded batch as long as its longest sequence, or as ``total_length``."""
        sizes: Any = sequence.batch_sizes
        padded = sequence.data.reshape(sizes.steps, -1, *sequence.data.shape[1:])
        if padding_value != 0 or not any(sequence.data is zeros for zeros in self._zero_padded):
            counts = torch.arange(padded.shape[0])[:, None] < sizes.lengths
            padded = torch.where(counts.reshape(*counts.shape, *[1] * (padded.ndim - 2)), padded, padding_value)
        if total_length is None:
            longest = sizes.lengths.max().item()
            torch._check(longest >= 1)
            torch._check(longest <= sizes.steps)
            padded = padded.narrow(0, 0, longest)
        elif total_length != sizes.steps:
            missing = [0] * (2 * padded.ndim - 1) + [total_length - sizes.steps]
            padded = nn.functional.pad(padded, missing, value=padding_value)
        return (padded.transpose(0, 1) if batch_first else padded), sizes.lengths

    def lstm(self, input: Tensor, *rest: Any) -> Any:
        """Return sequence and final states."""
        return self._run(torch.ops.portnet.lstm, torch._VF.lstm, (), input, *rest)

    def gru(self, input: Tensor, *rest: Any) -> Any:
        """Return sequence and final state."""
        return self._run(torch.ops.portnet.rnn, torch._VF.gru, ("gru",), input, *rest)

    def rnn_tanh(self, input: Tensor, *rest: Any) -> Any:
        """Return sequence and final state."""
        return self._run(torch.ops.portnet.rnn, torch._VF.rnn_tanh, ("rnn_tanh",), input, *rest)

    def rnn_relu(self, input: Tensor, *rest: Any) -> Any:
        """Return sequence and final state."""
        return self._run(torch.ops.portnet.rnn, torch._VF.rnn_relu, ("rnn_relu",), input, *rest)

    def _run(self, operation: Any, own: Any, kind: tuple[str, ...], input: Tensor, *rest: Any) -> Any:
        if not self.is_here:
            return own(input, *rest)
        sizes = rest[0] if isinstance(rest[0], Lengths) else None
        states, params, has_biases, layers, dropout, _, bidirectional, *last = rest if sizes is None else rest[1:]
        states = [states] if isinstance(states, Tensor) else list(states)
        if len(params) != layers * (1 + bidirectional) * (4 if has_biases else 2):
            return own(input, *rest)  # with projections
        options = (states, list(params), has_biases, layers, dropout, bidirectional)
        if sizes is None:
            return operation(*kind, input, None, *options, *last)
        steps = input.reshape(sizes.steps, -1, input.shape[1])
        sequence, *finals = operation(*kind, steps, sizes.lengths, *options, False)
        packed = sequence.reshape(-1, sequence.shape[2])
        self._zero_padded.append(packed)
        return (packed, *finals)


# ---- the operations


def _results(
    input: Tensor,
    lengths: Tensor | None,
    states: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """Return tensors of the right sizes; which arguments' sizes are one another's is told to the tracer."""
    batch = input.shape[0 if batch_first else 1]
    torch._check(input.shape[2] == params[0].shape[1])
    for state in states:
        torch._check(state.shape[0] == num_layers * (1 + bidirectional))
        torch._check(state.shape[1] == batch)
        torch._check(state.shape[2] == params[1].shape[1])
    if lengths is not None:
        torch._check(lengths.shape[0] == batch)
    features = params[1].shape[1] * (1 + bidirectional)
    return (input.new_empty(*input.shape[:2], features), *(state.new_empty(state.shape) for state in states))


def _compute(
    run: Any,
    input: Tensor,
    lengths: Tensor | None,
    states: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """Run a layer as torch does, on what is packed where there are lengths."""
    options = (list(params), has_biases, num_layers, 0.0, False, bidirectional)
    if lengths is None:
        return run(input, _alone(states), *options, batch_first)
    whole = input.shape[1 if batch_first else 0]
    packed = packing.pack_padded_sequence(input, lengths.cpu(), batch_first, enforce_sorted=False)
    ordered = [state.index_select(1, packed.sorted_indices) for state in states]
    data, *finals = run(packed.data, packed.batch_sizes, _alone(ordered), *options)
    result = packing.PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
    sequence, _ = packing.pad_packed_sequence(result, batch_first, total_length=whole)
    return (sequence, *(state.index_select(1, packed.unsorted_indices) for state in finals))


def _alone(states: Sequence[Tensor]) -> Any:
    return states[0] if len(states) == 1 else list(states)


torch.library.impl(_LIBRARY, "lstm", "CompositeExplicitAutograd")(lambda *given: _compute(torch._VF.lstm, *given))
torch.library.impl(_LIBRARY, "rnn", "CompositeExplicitAutograd")(
    lambda kind, *given: _compute(getattr(torch._VF, kind), *given)
)
torch.library.register_fake("portnet::lstm", lib=_LIBRARY)(lambda *given: _results(*given))
torch.library.register_fake("portnet::rnn", lib=_LIBRARY)(lambda kind, *given: _results(*given))
