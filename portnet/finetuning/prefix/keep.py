"""Cut a network at its freeze frontier, run the frozen part once, keep what comes of it: the whole story.

With ``cache="auto"`` activations that an earlier run left are read; else they are computed and kept in files below the
cache folder, where those may take ``cache_limit`` bytes in all (10 GB) and the disk has room; else in memory, where
they take at most 2 GB; else the network is cut where less is to be kept, or not at all. What is decided is said.
"disk" and "memory" insist and raise; "off" runs the whole network each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from portnet.adapter import Adapter
from portnet.data.dataset import Dataset
from portnet.data.decoders import describe
from portnet.data.loader import Loader
from portnet.errors import InputError, OutputError
from portnet.finetuning.freeze_table import FreezeTable
from portnet.finetuning.interrupt import Interrupt
from portnet.finetuning.loop import Batches
from portnet.finetuning.prefix.batches import CachedBatches
from portnet.finetuning.prefix.compute import Images, run_prefix, to_dtype
from portnet.finetuning.prefix.frontier import Cut, cuts, split_at
from portnet.finetuning.prefix.key import activations_key, identity, images_digest
from portnet.finetuning.prefix.store import DamagedError, Store
from portnet.finetuning.prefix.threads import few_threads
from portnet.finetuning.prefix.where import Computer, place
from portnet.finetuning.settings import Settings
from portnet.graph.digests import Digests
from portnet.graph.model import Model

__all__ = ["DISK_LIMIT", "MEMORY_LIMIT", "Kept", "keep"]

# most bytes that activations may take in memory, and all that are kept in files
MEMORY_LIMIT = 2 << 30
DISK_LIMIT = 10 * 10**9


@dataclass(frozen=True)
class Kept:
    """What trains once the frozen part has run.

    Attributes:
        train: batches of activations.
        val: the same of the validation images, or None.
        network: the rest of the network.
        record: where it was cut and where activations are, plain data.
    """

    train: Batches
    val: Batches | None
    network: Model
    record: dict[str, Any]

    def few_threads(self, adapter: Adapter, batch_size: int) -> AbstractContextManager[None]:
        """Let the engine use one thread where the network is small; see `portnet.finetuning.prefix.threads`."""
        return few_threads(adapter, self.network, batch_size)


class _NoRoomError(Exception):
    """Activations that do not fit; says why."""


@dataclass(frozen=True)
class _Part:
    """Activations of some images, in one entry or in memory.

    Attributes:
        images: what is run.
        key: what they are known by.
        shapes: of each tensor's array, rows first.
        what: how the progress bar calls them.
    """

    images: Images
    key: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    what: str

    @property
    def name(self) -> str:
        return identity(self.key)

    @property
    def size(self) -> int:
        numbers = sum(math.prod(shape) for shape in self.shapes)
        return numbers * np.dtype(self.key["dtype"]).itemsize


def keep(
    network: Model,
    table: FreezeTable,
    digests: Digests,
    train: Loader,
    val: Loader | None,
    settings: Settings,
    reporter: Any,
    interrupt: Interrupt,
    tensors: Sequence[str] | None = None,
) -> Kept | None:
    """Return batches of activations and the network that trains on them; None where the whole network is to run.

    Args:
        network: backbone and head.
        table: what is frozen.
        digests: of the network's weights.
        train: training images.
        val: validation images, or None.
        settings: ``cache``, ``cache_dtype``, ``cache_limit`` and ``augment_views`` are used.
        reporter: is told what happens.
        interrupt: looked at between batches.
        tensors: where a resumed run was cut, empty for not at all; None to choose.

    Raises:
        InputError: the cache is insisted on, and there is nothing to keep or no room.
        OutputError: ``cache="disk"``, and the cache folder cannot be written.
    """
    if settings.cache == "off" or tensors == []:
        return None
    options = cuts(network, table)
    if tensors is not None:
        options = [option for option in options if list(option.tensors) == list(tensors)]
    is_fresh = settings.augment is not None and not settings.augment_views
    if not options or is_fresh:
        _say_why_not(settings, reporter, bool(options), tensors)
        return None
    keeper = _Keeper(network, digests, train, val, settings, reporter, interrupt)
    reasons = []
    for option in options:
        try:
            return keeper.keep(option)
        except _NoRoomError as reason:
            reasons.append(str(reason))
    if settings.cache != "auto" or tensors is not None:
        raise InputError(f"cache: {reasons[0]}")
    reporter.note(f"the frozen part is not kept and runs at each step: {reasons[-1]}")
    return None


def _say_why_not(settings: Settings, reporter: Any, is_cuttable: bool, tensors: Sequence[str] | None) -> None:
    if tensors is not None:
        raise InputError(f"cache: the run was cut at {', '.join(tensors)}, where this network cannot be cut.")
    if settings.cache != "auto":
        raise InputError(
            f"cache: {settings.cache} was asked for, but nothing can be kept: the policy freezes no prefix, or images "
            "are augmented anew in each epoch. Use cache='auto', or augment_views to keep some views of each image."
        )
    if is_cuttable:
        reporter.note(
            "images are augmented anew in each epoch, so the frozen part runs at each step; augment_views=K would "
            "keep K views of each image"
        )


class _Keeper:
    """Keeps the activations of one run's images, at whatever cut is tried."""

    def __init__(
        self,
        network: Model,
        digests: Digests,
        train: Loader,
        val: Loader | None,
        settings: Settings,
        reporter: Any,
        interrupt: Interrupt,
    ) -> None:
        self._network, self._digests, self._train, self._val = network, digests, train, val
        self._settings, self._reporter, self._interrupt = settings, reporter, interrupt
        assert network.preprocessing is not None
        self._preprocessing = network.preprocessing
        self._store, self._place = Store(), place(settings)
        self._views = settings.augment_views
        as_they_are = [loader.dataset for loader in (None if self._views else train, val) if loader is not None]
        self._plain = distinct(as_they_are) if as_they_are else None

    def keep(self, option: Cut) -> Kept:
        """Keep activations at one cut.

        Raises:
            _NoRoomError: they do not fit.
        """
        prefix, suffix = split_at(self._network, option.tensors)
        parts = self._parts(option, prefix)
        size = sum(part.size for part in parts)
        record = {
            "tensors": list(option.tensors),
            "dtype": self._settings.cache_dtype,
            "views": self._views or None,
            "bytes": size,
        }
        say = self._reporter.note
        if self._settings.cache != "memory":
            try:
                arrays, computed = self._on_disk(prefix, parts, option)
                where = "ran once" if computed else f"ran in an earlier run, {_amount(size)} read from {self._store}"
                say(f"the frozen part {where}; training continues from {option}")
                return self._kept(arrays, suffix, {**record, "where": "disk", "computed": computed})
            except (_NoRoomError, OutputError) as reason:
                if self._settings.cache == "disk":
                    raise
                say(f"activations are kept in memory: {reason}")
        arrays = self._in_memory(prefix, parts, option)
        say(f"the frozen part ran once; training continues from {option}")
        return self._kept(arrays, suffix, {**record, "where": "memory", "computed": True})

    # ---- what is kept

    def _parts(self, option: Cut, prefix: Model) -> list[_Part]:
        """Return the augmented views, where there are some, and the images that are used as they are."""
        parts = []
        if self._views:
            decoder, seed = self._train.decoder, self._settings.seed
            images = Images(self._train.dataset, self._settings.augment, self._views, seed, decoder)
            changes = {"augment": repr(images.augment), "views": images.views, "seed": images.seed}
            parts.append(self._part(images, option, prefix, changes))
        if self._plain is not None:
            parts.append(self._part(Images(self._plain, decoder=self._train.decoder), option, prefix, None))
        return parts

    def _part(self, images: Images, option: Cut, prefix: Model, changes: dict[str, Any] | None) -> _Part:
        digest = images_digest(images.dataset.item_digests)
        decoder, dtype = describe(images.decoder), self._settings.cache_dtype
        weights = self._digests.of(prefix.weights())
        key = activations_key(prefix, weights, digest, dtype, self._preprocessing, decoder, changes, self._place.name)
        what = "training images" if changes else "images"
        return _Part(images, key, tuple((images.rows, *shape) for shape in option.shapes), what)

    def _kept(self, arrays: list[list[np.ndarray]], network: Model, record: dict[str, Any]) -> Kept:
        """Return each loader's batches over the arrays of its images."""
        if self._views:
            count = len(self._train.dataset)
            train = CachedBatches(self._train, arrays[0], np.arange(count), views=self._views, stride=count)
            self._reporter.note(
                f"{self._views} augmented views of each training image are kept; epoch e trains on view e mod "
                f"{self._views}, epochs counted from 0"
            )
        else:
            train = self._rows(self._train, arrays[-1])
        return Kept(train, None if self._val is None else self._rows(self._val, arrays[-1]), network, record)

    def _rows(self, loader: Loader, arrays: list[np.ndarray]) -> CachedBatches:
        assert self._plain is not None
        places = {digest: place for place, digest in enumerate(self._plain.item_digests)}
        return CachedBatches(loader, arrays, np.array([places[each] for each in loader.dataset.item_digests]))

    # ---- where it is kept

    def _on_disk(self, prefix: Model, parts: list[_Part], option: Cut) -> tuple[list[list[np.ndarray]], bool]:
        """Return arrays of each part, mapped, and whether any had to be computed."""
        found = [self._find(part) for part in parts]
        missing = [part for part, arrays in zip(parts, found, strict=True) if arrays is None]
        if not missing:
            return [arrays for arrays in found if arrays is not None], False
        names = [part.name for part in missing]
        need, (taken, free) = sum(part.size for part in missing), self._room(names)
        limit = DISK_LIMIT if self._settings.cache_limit is None else self._settings.cache_limit
        room = min(limit - taken, free)
        if room < need <= room + sum(each.size for each in self._store.left_beside(names)):
            self._store.drop_left(names)
            taken, free = self._room(names)
        if need > limit - taken:
            raise _NoRoomError(
                f"activations at {option} take {_amount(need)}; {self._store} holds {_amount(taken)} and may "
                f"hold {_amount(limit)}. Clear it with `portnet cache --clear`, or raise cache_limit"
            )
        if need > free:
            raise _NoRoomError(
                f"activations at {option} take {_amount(need)}, and the disk of {self._store} has room for "
                f"{_amount(free)}"
            )
        self._reporter.note(f"activations at {option} take {_amount(need)}, kept in {self._store}")
        computer = self._place.open(prefix)
        for part in missing:
            about = {
                "network": self._settings.backbone,
                "tensors": list(option.tensors),
                "images": len(part.images.dataset),
                "views": part.images.views,
                "dtype": part.key["dtype"],
            }
            with self._store.writing(part.name, part.key, part.shapes, part.key["dtype"], about) as writer:
                if writer.rows:
                    self._reporter.note(
                        f"{writer.rows:,} of {part.images.rows:,} are there already, from a run that was interrupted"
                    )
                self._run(computer, part, writer.append, writer.rows)
        return [self._store.open(part.name, part.key, part.shapes, part.key["dtype"]) for part in parts], True

    def _room(self, names: Sequence[str]) -> tuple[int, int]:
        """Return the bytes that others take, and those that the disk has for these entries."""
        begun = self._store.begun(names)
        return self._store.size() - begun, self._store.free() + begun

    def _find(self, part: _Part) -> list[np.ndarray] | None:
        if not self._store.holds(part.name):
            return None
        try:
            return self._store.open(part.name, part.key, part.shapes, part.key["dtype"])
        except DamagedError as error:
            self._reporter.note(f"cache entry {part.name} is damaged and made again: {error}")
            self._store.remove(part.name)
            return None

    def _in_memory(self, prefix: Model, parts: list[_Part], option: Cut) -> list[list[np.ndarray]]:
        need = sum(part.size for part in parts)
        limit = MEMORY_LIMIT if self._settings.cache_limit is None else self._settings.cache_limit
        if need > limit:
            raise _NoRoomError(
                f"activations at {option} take {_amount(need)}, more than the {_amount(limit)} that memory may. Raise "
                "cache_limit, or use cache='disk' or cache_dtype='float16'"
            )
        computer = self._place.open(prefix)
        kept = []
        for part in parts:
            arrays = [np.empty(shape, part.key["dtype"]) for shape in part.shapes]
            self._run(computer, part, _Filler(arrays).append)
            kept.append(arrays)
        return kept

    def _run(
        self, computer: Computer, part: _Part, append: Callable[[Sequence[np.ndarray]], None], start: int = 0
    ) -> None:
        show = self._reporter.task(f"frozen part, {part.what}", part.images.rows)

        def done(count: int) -> None:
            show(count)
            self._interrupt.check()

        run_prefix(
            computer,
            part.images,
            self._preprocessing,
            lambda rows: append(to_dtype(rows, part.key["dtype"])),
            done,
            start,
        )


class _Filler:
    """Puts rows into arrays, in order."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        self._arrays, self._rows = arrays, 0

    def append(self, parts: Sequence[np.ndarray]) -> None:
        count = len(parts[0])
        for array, part in zip(self._arrays, parts, strict=True):
            array[self._rows : self._rows + count] = part
        self._rows += count


def distinct(datasets: Sequence[Dataset]) -> Dataset:
    """Return the images of several datasets, each once, in the order of their digests.

    So the same images are kept under the same name however they are split; labels are of no account.
    """
    first: dict[bytes, Any] = {}
    for dataset in datasets:
        for digest, item in zip(dataset.item_digests, dataset.items, strict=True):
            first.setdefault(digest, item)
    digests = sorted(first)
    items = tuple(first[digest] for digest in digests)
    whole = replace(datasets[0], items=items, labels=np.zeros(len(items), np.int64))
    whole.know_digests(digests)
    return whole


def _amount(size: int) -> str:
    """Return bytes as people read them."""
    for unit, bytes_each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_each:
            return f"{size / bytes_each:.1f} {unit}"
    return f"{size} bytes"
