"""Callbacks: code of the user's that is told what a run does, and may end it.

A callback is any object with some of the methods of `Callback`. What it raises ends the run as Ctrl-C does: what was
learned so far is kept, and the run can be resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portnet.errors import InputError, TrainingError
from portnet.finetuning.history import Epoch, Validation

if TYPE_CHECKING:
    from portnet.finetuning.run import Run
    from portnet.finetuning.settings import Settings

__all__ = ["Callback", "Callbacks", "Start", "Step"]


@dataclass(frozen=True)
class Start:
    """A run that is about to train.

    Attributes:
        settings: everything that decides it.
        classes: class names.
        steps_per_epoch: steps of an epoch.
        step: steps already taken, of a resumed run.
    """

    settings: Settings
    classes: tuple[str, ...]
    steps_per_epoch: int
    step: int


@dataclass(frozen=True)
class Step:
    """One step that is done.

    Attributes:
        step: steps taken, this one included.
        epoch: the epoch it belongs to, from 0.
        loss: of its batch, in nats.
        accuracy: of the epoch so far, 0..1.
        lr: its learning rate.
    """

    step: int
    epoch: int
    loss: float
    accuracy: float
    lr: float


class Callback:
    """What a run can tell. Every method may be left out.

    The value that `on_step`, `on_validation` and `on_epoch` return says whether the run shall end here: True ends it
    in good order, as if it had been its last step.
    """

    def on_start(self, start: Start) -> None:
        """Training begins, or goes on."""

    def on_step(self, step: Step) -> bool | None:
        """One step is done."""

    def on_validation(self, validation: Validation) -> bool | None:
        """The validation images were classified."""

    def on_epoch(self, epoch: Epoch) -> bool | None:
        """One epoch is done."""

    def on_end(self, run: Run | None) -> None:
        """The run is over, its files are written; called once whatever happened. None: there is nothing to keep."""


_HOOKS = ("on_start", "on_step", "on_validation", "on_epoch", "on_end")


class Callbacks:
    """All callbacks of a run, called in order.

    Raises:
        InputError: an object that has none of the methods.
    """

    def __init__(self, callbacks: Sequence[Any] = ()) -> None:
        self._methods: dict[str, list[Callable[[Any], Any]]] = {hook: [] for hook in _HOOKS}
        if not isinstance(callbacks, Iterable):
            raise InputError(f"callbacks: got {callbacks!r}, expected a list of callbacks")
        for callback in callbacks:
            own = {hook: getattr(callback, hook, None) for hook in _HOOKS}
            if not any(map(callable, own.values())):
                raise InputError(
                    f"callbacks: got {callback!r}, expected an object with one of the methods {', '.join(_HOOKS)}"
                )
            for hook, method in own.items():
                if callable(method) and getattr(type(callback), hook, None) is not getattr(Callback, hook):
                    self._methods[hook].append(method)

    def listen(self, hook: str) -> bool:
        """Whether anyone wants to hear of it."""
        return bool(self._methods[hook])

    def tell(self, hook: str, event: Any) -> bool:
        """Call every callback's method; return whether one of them asks to end the run.

        Raises:
            TrainingError: what one of them raised, as one line; all have been called.
        """
        asked, failure = False, None
        for method in self._methods[hook]:
            try:
                asked = method(event) is True or asked
            except Exception as error:
                failure = failure or (method, error)
        if failure is not None:
            culprit, cause = failure
            owner = type(getattr(culprit, "__self__", culprit)).__name__
            raise TrainingError(f"callback {owner}.{hook} raised {type(cause).__name__}: {cause}") from cause
        return asked
