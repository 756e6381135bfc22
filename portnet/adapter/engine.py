"""What an engine can do: lower, write and read its files, capture."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from portnet.adapter.files import FileFormat, Reloaded
from portnet.adapter.lowered import Lowered, remember
from portnet.errors import InputError, PortNetError, UnsupportedError
from portnet.formats.captured import Captured, Source
from portnet.graph.garbage import no_collection
from portnet.graph.model import Model

__all__ = ["Adapter", "CaptureOptions"]


@dataclass(frozen=True)
class CaptureOptions:
    """What a caller wants of a capture.

    Attributes:
        examples: example inputs in the framework's own layout, in order, or one mapping of them; None where the
            network itself says what it takes.
        dynamic_batch: whether the batch, axis 0 of each input, stays free.
        keep_layout: whether inputs and outputs stay channels last where the framework has them so; else they become
            channels first, with no transpose left inside.
        dynamic_sizes: whether a network of torch keeps all other sizes free as well, lengths, heights and widths, where
            its code lets them be.
    """

    examples: tuple[Any, ...] | None = None
    dynamic_batch: bool = True
    keep_layout: bool = False
    dynamic_sizes: bool = False


class Adapter(abc.ABC):
    """An engine. Stateless; creating one imports no framework, its methods may.

    Attributes:
        name: what users type, e.g. "torch".
        framework: what people call it, e.g. "PyTorch".
        ops: names of the ops ("Relu", "com.microsoft.Gelu") that it lowers itself; what is not here is expanded
            into the standard's function body, or refused.
        formats: forms of file that it writes, by the name that users type.
        fixed_ranks: whether it must know the rank of every tensor while the network is built.
        sources: what it opens for capture, for help and messages: the beginning ("torchvision:") or the ending (".pt2")
            of what users type → a description.
    """

    name: str
    framework: str
    formats: ClassVar[Mapping[str, FileFormat]] = {}
    compiles: ClassVar[bool] = False
    fixed_ranks: ClassVar[bool] = True
    sources: ClassVar[Mapping[str, str]] = {}

    def __repr__(self) -> str:
        return f"<engine {self.name}: {self.framework}>"

    @property
    @abc.abstractmethod
    def ops(self) -> frozenset[str]:
        """Names of the ops it lowers itself."""

    @abc.abstractmethod
    def version(self) -> str:
        """Version of the framework, imported to find out."""

    @abc.abstractmethod
    def devices(self) -> list[str]:
        """Devices that work here, best first, e.g. ["cuda:0", "cpu"]."""

    @abc.abstractmethod
    def lower_canonical(self, model: Model, device: str) -> Lowered:
        """Lower a model that is in canonical form already. Implemented by each engine; callers use `lower`."""

    def lower(self, model: Model, *, device: str | None = None) -> Lowered:
        """Lower any model onto this engine.

        Args:
            model: any valid network; it is brought to canonical form first and not changed.
            device: one of `devices`; None for "cpu".

        Raises:
            UnsupportedError: an op, attribute or type that the engine cannot express, named with its node.
            ModelError: a graph that is broken.
            InputError: no `Model`.
        """
        if not isinstance(model, Model):
            raise InputError(
                f"engine {self.name}: got a {type(model).__name__} to lower, expected a portnet.Model. Open files with "
                "portnet.Model.load, or ask portnet.convert."
            )
        device = device or "cpu"
        self.check_device(device)
        try:
            with no_collection():
                lowered = self.lower_canonical(model.canonical(self.ops, fixed_ranks=self.fixed_ranks), device)
        except Exception as error:
            if isinstance(error, PortNetError) or not self.is_out_of_memory(error):
                raise
            raise UnsupportedError(
                f"engine {self.name}: network {model.name!r} does not fit into memory: {error}", engine=self.name
            ) from error
        lowered.check_trainable_count()
        remember(lowered)
        return lowered

    def about(self, device: str) -> dict[str, str]:
        """Return what of a device may change the last bits of a result, by name, for a run's record."""
        return {}

    def precisions(self, device: str) -> tuple[str, ...]:
        """Precisions that training on a device can have; see `TrainPlan.precision`."""
        return ("fp32",)

    def why_no_precision(self, precision: str, device: str) -> str:
        """Return why training cannot have a precision on a device, in a sentence, or ""."""
        return ""

    def check_training(self, device: str, precision: str, compile: bool) -> None:
        """Make sure that training can be had in this form.

        Raises:
            UnsupportedError: the engine has no such precision on the device, or nothing to compile with.
        """
        known = self.precisions(device)
        if precision not in known:
            why = self.why_no_precision(precision, device)
            raise UnsupportedError(
                f"engine {self.name}: got precision {precision!r}, expected {' or '.join(known)} on {device}"
                + (f". {why}" if why else ""),
                engine=self.name,
            )
        if compile and not self.compiles:
            raise UnsupportedError(
                f"engine {self.name}: got compile=True, but it has nothing to turn on. Leave it out.", engine=self.name
            )

    def check_device(self, device: str) -> None:
        """Make sure that a device is there.

        Raises:
            UnsupportedError: it is not among `devices`.
        """
        # "cuda" is the first of them, as in torch
        if (f"{device}:0" if device == "cuda" else device) not in self.devices():
            raise UnsupportedError(
                f"engine {self.name}: got device {device!r}, expected one of {', '.join(self.devices())}",
                engine=self.name,
            )

    def write(self, lowered: Lowered, path: Path, form: str) -> list[Path]:
        """Write a network that this engine lowered, with the weights that it has now.

        Args:
            lowered: the network; it is not changed.
            path: what the user asked for, ending as ``formats[form]`` says. Nothing is there yet, and nothing else is
                written in its folder but what belongs to the network.
            form: a name in `formats`.

        Returns:
            The files and folders written, the one to open first.

        Raises:
            UnsupportedError: the form cannot express the network.
        """
        raise UnsupportedError(f"engine {self.name}: it writes no files", engine=self.name)

    def reload(self, lowered: Lowered, path: Path, form: str) -> Reloaded:
        """Read what `write` wrote, with the framework's own loader.

        Args:
            lowered: tells the border: names, dtypes and order of axes. A form that holds weights alone is read into a
                network of its architecture; no number is taken from it.
            path: as in `write`.
            form: as in `write`.
        """
        raise UnsupportedError(f"engine {self.name}: it reads no files", engine=self.name)

    def owns(self, native: Any) -> bool:
        """Whether ``native`` is a network of this framework, told by its classes' modules: nothing is imported."""
        return False

    def open(self, source: str, weights: Path | None = None) -> Any:
        """Return the network that a word or path means (``torchvision:resnet18``, ``model.pt2``), in inference mode.

        Args:
            source: the word or path.
            weights: the file that holds its weights, where it is another.

        Raises:
            UnknownNameError: the collection has no such network.
            MissingDependencyError: the collection's package is not installed.
            InputError: a file that is broken or hostile; none of its code is run.
        """
        raise UnsupportedError(f"engine {self.name}: it opens no networks", engine=self.name)

    def capture(self, native: Any, options: CaptureOptions) -> tuple[Captured, Source]:
        """Return a network of this framework as a `Model`, trainable, and what runs the original.

        BatchNormalization stays what it is, parameters bear the framework's names, Dropout stays. ``native`` is not
        changed: neither weights, nor its mode of training or inference, nor what requires gradients.

        Raises:
            UnsupportedError: names every layer that has no translation.
            InputError: examples that are missing or do not fit.
        """
        raise UnsupportedError(f"engine {self.name}: it captures no networks", engine=self.name)

    def is_out_of_memory(self, error: Exception) -> bool:
        """Whether what the framework raised says that the memory of a device, or of the machine, ran out."""
        return isinstance(error, MemoryError)

    def limit_threads(self, count: int) -> int | None:
        """Use at most ``count`` threads for arithmetic from now on.

        Returns:
            The count before, to be given back; None, and nothing is done, where the framework does not let itself be
            told again and again.
        """
        return None
