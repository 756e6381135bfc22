"""Find images on disk: a folder of class folders, and folders of splits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from portnet.errors import DataError

__all__ = ["class_folders", "find_images", "find_splits", "split_name", "stray_images"]

IMAGE_SUFFIXES = frozenset([".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp"])
# images all the same: left out silently, a class would be smaller than its owner believes
UNREADABLE_SUFFIXES = frozenset([".avif", ".heic", ".heif", ".jp2", ".jxl", ".psd", ".svg", ".tif", ".tiff"])
# what macOS and Synology put beside people's files
LITTER = frozenset(["__MACOSX", "@eaDir"])

_SPLITS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


def class_folders(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the class folders right below ``folder``, sorted by name. Links to folders count.

    Raises:
        DataError: no such folder, a file, no class folder in it, or a folder of splits.
    """
    root = Path(folder)
    if not os.fspath(folder) or not root.exists():
        raise DataError(f"no such folder: got {os.fspath(folder)!r}, expected a folder of class folders.")
    if not root.is_dir():
        raise DataError(f"not a folder: got the file {str(root)!r}, expected a folder of class folders.")
    splits = find_splits(root)
    if splits:
        raise DataError(
            f"{str(root)!r} holds splits ({', '.join(splits)}), expected classes. "
            f"Give {str(splits['train'])!r}, and the others apart."
        )
    folders = _subfolders(root)
    if not folders:
        raise DataError(
            f"no class folders in {str(root)!r}: expected one folder of images for each class. "
            "Put the images of a class into a folder that bears its name."
        )
    return folders


def find_images(folder: Path) -> list[str]:
    """Return the paths of the image files anywhere below ``folder``, sorted by their parts.

    An image is known by its suffix; formats that PortNet does not read are listed too, so that reading
    them says so. Other files, hidden ones and what operating systems leave behind are passed over, and so are links
    back to the folder of the classes or above it, through which the images of all classes would belong to this one.
    """
    root = folder.absolute().parent.resolve()
    return list(_walk(folder, {_identity(above) for above in (root, *root.parents)}))


def stray_images(folder: str | os.PathLike[str]) -> list[str]:
    """Return the image files that lie right in ``folder``, beside its class folders and in none."""
    return [entry.path for entry in _entries(Path(folder)) if _is_image_file(entry)]


def find_splits(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Return the explicit splits in ``folder``: "train" and, where they exist, "val" and "test".

    Empty unless there is a ``train`` with folders in it and nothing but ``train``, ``val`` (or
    ``valid``, ``validation``) and ``test`` stands beside it, in any case: then these are classes.

    Raises:
        DataError: two folders that mean the same split.
    """
    folders = _subfolders(Path(folder)) if os.path.isdir(folder) else []
    names = [split_name(path.name) for path in folders]
    if "train" not in names or None in names or not _subfolders(folders[names.index("train")]):
        return {}
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{str(folder)!r} holds {name!r} more than once. Keep one of them.")
    return {name: folders[names.index(name)] for name in ("train", "val", "test") if name in names}


def split_name(name: object) -> str | None:
    """Return "train", "val" or "test" for what people call them, or None for any other name."""
    return _SPLITS.get(str(name).lower())


def _subfolders(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in _entries(folder) if _is_folder(entry)]


def _walk(folder: Path | str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """Yield the image files below ``folder``; a folder that was seen before is skipped."""
    identity = _identity(folder)
    if identity in seen:  # a link back to a folder above would never end
        return
    seen.add(identity)
    for entry in _entries(folder):
        if _is_folder(entry):
            yield from _walk(entry.path, seen)
        elif _is_image_file(entry):
            yield entry.path


def _identity(folder: Path | str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """Everything in ``folder`` that its owner put there, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in LITTER]
    except OSError as error:
        raise DataError(f"cannot read folder {str(folder)!r}: {error.strerror}.") from error
    return sorted(visible, key=lambda entry: entry.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))


def _is_image_file(entry: os.DirEntry[str]) -> bool:
    if os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES | UNREADABLE_SUFFIXES:
        return False
    if entry.is_symlink():  # a link to nowhere is an image that cannot be read
        return os.path.isfile(entry.path) or not os.path.exists(entry.path)
    return entry.is_file()  # no pipe and no device: opening one would block
