"""Where official weights are: in the cache, in an installed package, or at their publisher's address.

A file is used only if its digest is the catalogue's, wherever it came from and every time. Where the publisher
states only the beginning of a digest, the whole one is recorded beside the file when it is first downloaded, and
compared from then on.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from portnet.errors import OutputError, PortNetError, WeightsError
from portnet.files import cache_root, replace_file
from portnet.weights.arrays import check_budget
from portnet.weights.catalogue import PackageSource, WeightsEntry, entries
from portnet.weights.digest import digest
from portnet.weights.download import fetch
from portnet.weights.lock import exclusive
from portnet.weights.progress import Progress, bar

__all__ = ["cache_folder", "download", "find", "locate", "resolve"]


def cache_folder() -> Path:
    """Return the folder that weights are kept in, below `portnet.files.cache_root`."""
    return cache_root() / "weights"


def resolve(network: str, name: str = "imagenet", progress: Progress | None = None) -> tuple[WeightsEntry, Path]:
    """Return the weights of that name for a network and the file they are in.

    What is on this machine is taken first: of the official weights and those that stand in for them, the first
    that is in the cache, then the first that is in an installed package. Otherwise the official ones are downloaded.

    Raises:
        UnknownNameError: no weights of that name are known for the network.
        WeightsError: not at hand and not to be had, or a file with another digest.
        OutputError: the cache cannot be written.
    """
    known = entries(network, name)
    for look in (_in_cache, _in_packages):
        for entry in known:
            path = look(entry)
            if path is not None:
                return entry, path
    return known[0], download(known[0], progress, known[1:])


def locate(entry: WeightsEntry, progress: Progress | None = None) -> Path:
    """Return the file of one entry: from the cache, an installed package, or downloaded into the cache.

    Raises:
        WeightsError: not at hand and not to be had, or a file with another digest.
        OutputError: the cache cannot be written.
    """
    return find(entry) or download(entry, progress)


def find(entry: WeightsEntry) -> Path | None:
    """Return the file of an entry if it is on this machine, its digest checked, without using the network.

    Raises:
        WeightsError: the file is there with another digest.
    """
    return _in_cache(entry) or _in_packages(entry)


def download(
    entry: WeightsEntry, progress: Progress | None = None, alternatives: tuple[WeightsEntry, ...] = ()
) -> Path:
    """Download an entry into the cache, check it, and return its path. Other processes wait for the one at it.

    Args:
        entry: what to download.
        progress: told bytes done and bytes in all; None shows a bar where the error stream is a terminal.
        alternatives: entries whose packages are named as another way when the download fails.

    Raises:
        WeightsError: offline, ``$PORTNET_OFFLINE`` is set, or another digest; it says which file to put where.
        OutputError: the cache cannot be written.
    """
    folder = cache_folder()
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with exclusive(folder / f"{entry.filename}.lock"):
            return _in_cache(entry) or _download(entry, progress, alternatives)


def _download(entry: WeightsEntry, progress: Progress | None, alternatives: tuple[WeightsEntry, ...]) -> Path:
    if entry.url is None:
        raise WeightsError(_by_hand(entry, f"{entry.filename} is published in a package alone", alternatives))
    if os.environ.get("PORTNET_OFFLINE", "") not in ("", "0"):
        raise WeightsError(_by_hand(entry, "PORTNET_OFFLINE is set, nothing is downloaded", alternatives))
    part = cache_folder() / f"{entry.filename}.part"
    try:
        if progress is not None:
            fetch(entry.url, part, _download_size(entry), progress)
        else:
            with bar(entry.filename) as shown:
                fetch(entry.url, part, _download_size(entry), shown)
    except WeightsError as error:
        raise WeightsError(_by_hand(entry, str(error), alternatives)) from error
    return _install(entry, part)


def _download_size(entry: WeightsEntry) -> int | None:
    return entry.size if entry.archive_member is None else None


def _install(entry: WeightsEntry, part: Path) -> Path:
    """Give a finished download its name in the cache, if it is what it should be; remove it if it is not."""
    target = cache_folder() / entry.filename
    whole = part
    try:
        if entry.archive_member is not None:
            whole = part.with_suffix(".member")
            _extract(part, entry.archive_member, whole)
        found = digest(whole, entry.digest.algorithm)
        if not found.startswith(entry.digest.value):
            raise WeightsError(
                f"downloaded {entry.filename} has the wrong digest: got {found}, expected {entry.digest}. "
                f"It was removed. {entry.url} may have been changed or tampered with; try again later."
            )
        if not entry.digest.complete:
            recorded = f"{digest(whole)}\n".encode()
            replace_file(_record(target), lambda file: file.write(recorded))
        whole.replace(target)
    finally:
        part.unlink(missing_ok=True)
        whole.unlink(missing_ok=True)
    return target


def _extract(archive: Path, member: str, target: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            check_budget([opened.getinfo(member).file_size], archive.stat().st_size, archive.name)
            with opened.open(member) as source, target.open("wb") as file:
                shutil.copyfileobj(source, file)
                file.flush()
                os.fsync(file.fileno())
    except PortNetError:
        raise
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, EOFError) as error:
        raise WeightsError(f"download: {archive.name} is no zip file with {member!r} in it: {error}") from error


def _in_cache(entry: WeightsEntry) -> Path | None:
    path = cache_folder() / entry.filename
    return _verified(entry, path) if path.is_file() else None


def _in_packages(entry: WeightsEntry) -> Path | None:
    """Return the file in a package; another file of that name is not the one that is looked for."""
    files = (_package_file(source) for source in entry.packages)
    return next((path for path in files if path is not None and _digest(path) == entry.digest.value), None)


def _package_file(source: PackageSource) -> Path | None:
    """Return the file in an installed distribution. The package is not imported."""
    try:
        path = Path(str(metadata.distribution(source.distribution).locate_file(source.path)))
    except metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def _verified(entry: WeightsEntry, path: Path) -> Path:
    """Return the cached file if its digest is the catalogue's, and the recorded one where that is incomplete."""
    found = _digest(path, entry.digest.algorithm)
    if not found.startswith(entry.digest.value):
        raise WeightsError(
            f"{path} has the wrong digest: got {found}, expected {entry.digest}. Delete it and try again."
        )
    record = _record(path)
    if not entry.digest.complete and record.is_file() and record.read_text("utf-8").strip() != found:
        raise WeightsError(
            f"{path} is not what was downloaded: got SHA-256 {found}, expected the one in {record.name}. "
            "Delete both and try again."
        )
    return path


def _digest(path: Path, algorithm: str = "sha256") -> str:
    try:
        return digest(path, algorithm)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _by_hand(entry: WeightsEntry, reason: str, alternatives: tuple[WeightsEntry, ...]) -> str:
    """Say why there is no file and every way to get one."""
    unzipped = ", unzipped," if entry.archive_member else ""
    ways = [f"put {entry.filename}{unzipped} ({entry.digest}) into {cache_folder()}"] if entry.url else []
    ways += [f"run `{source.command}`" for each in (entry, *alternatives) for source in each.packages]
    address = f" It is published at {entry.url}." if entry.url and entry.url not in reason else ""
    return (
        f"weights {entry.name!r} of {entry.network} are not at hand: {reason}.{address} To go on, {', or '.join(ways)}."
    )


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except PortNetError:
        raise
    except OSError as error:
        raise OutputError(
            f"the cache {folder} cannot be written: {error.strerror or error}. Set PORTNET_CACHE to another folder."
        ) from error
