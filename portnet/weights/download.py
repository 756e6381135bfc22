"""`fetch`: a file from an address, resumed where it broke off, never longer than it should be.

Nothing here decides whether the file is the right one: that is the digest's part, in `store`.
"""

from __future__ import annotations

import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

from portnet.errors import WeightsError
from portnet.weights.progress import Progress

__all__ = ["fetch"]

ATTEMPTS = 4
_TIMEOUT_SECONDS = 30
_BLOCK = 1 << 16
# no weights of the zoo come near; a server that sends on and on is stopped here
_MOST_BYTES = 4 << 30
_RANGE_NOT_SATISFIABLE = 416


class _BrokenOffError(Exception):
    """The connection ended before the file did."""


def fetch(url: str, part: Path, size: int | None, progress: Progress) -> None:
    """Bring the file at ``url`` to ``part``, going on from what is there already.

    Args:
        url: http(s) address.
        part: where the bytes go; they stay there when the connection fails, for the next call to go on from.
        size: bytes expected, or None if that is not known.
        progress: told how far it is.

    Raises:
        WeightsError: the address cannot be reached, refuses, breaks off four times, or sends another size.
        OSError: ``part`` cannot be written.
    """
    for attempt in range(ATTEMPTS):
        try:
            return _continue(url, part, size, progress)
        except _BrokenOffError as error:
            if attempt == ATTEMPTS - 1:
                raise WeightsError(f"download of {url} broke off {ATTEMPTS} times: {error}") from error


def _continue(url: str, part: Path, size: int | None, progress: Progress) -> None:
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have >= size:
        have = 0
    with _open(url, have) as response, part.open("r+b" if part.exists() else "xb") as file:
        start = have if _resumes(response, have) else 0
        total = _total(response, start)
        if size is not None and total is not None and total != size:
            raise WeightsError(f"{url} offers {total} bytes, expected {size}. The publisher changed the file.")
        file.truncate(start)
        file.seek(start)
        _copy(response, file, start, size or total, progress)
        file.flush()
        os.fsync(file.fileno())


def _open(url: str, have: int) -> Any:
    headers = {"User-Agent": "portnet", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == _RANGE_NOT_SATISFIABLE and have:
            return _open(url, 0)
        raise WeightsError(f"cannot download {url}: HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise WeightsError(f"cannot download {url}: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(str(error) or type(error).__name__) from error


def _resumes(response: Any, have: int) -> bool:
    """Tell whether the server goes on from byte ``have`` (206) or begins anew (200)."""
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return response.status == http.HTTPStatus.PARTIAL_CONTENT and match is not None and int(match[1]) == have


def _total(response: Any, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _copy(response: Any, file: BinaryIO, done: int, total: int | None, progress: Progress) -> None:
    progress(done, total)
    while True:
        try:
            block = response.read(_BLOCK)
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenOffError(str(error) or type(error).__name__) from error
        if not block:
            break
        done += len(block)
        if done > (_MOST_BYTES if total is None else total):
            raise WeightsError(f"download: got more than the {total or _MOST_BYTES} bytes expected. Stopped.")
        file.write(block)
        progress(done, total)
    if total is not None and done < total:
        raise _BrokenOffError(f"got {done} of {total} bytes")
