"""Strings and files in memory. A tensor of strings is a numpy object array."""

from __future__ import annotations

import io
import itertools
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def concat(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Join strings element by element, broadcasting."""
    return np.asarray(a + b, dtype=object)


def split(x: np.ndarray, delimiter: str | None, most: int | None) -> tuple[np.ndarray, Tensor]:
    """Split each string; return the parts, filled up with "", and how many each has."""
    parts = [str(s).split(delimiter or None, -1 if most is None else most) for s in x.ravel()]
    width = max((len(p) for p in parts), default=0)
    table = np.empty((len(parts), width), dtype=object)
    for row, words in enumerate(parts):
        table[row] = words + [""] * (width - len(words))
    counts = torch.tensor([len(p) for p in parts], dtype=torch.int64)
    return table.reshape(*x.shape, width), counts.reshape(x.shape)


def normalize(x: np.ndarray, case: str, case_sensitive: bool, stopwords: Sequence[str] | None) -> np.ndarray:
    """Drop accents, change case and remove stop words and what becomes empty; [""] when nothing is left."""
    change = {"LOWER": str.lower, "UPPER": str.upper, "NONE": str}[case]
    stops = {w if case_sensitive else w.casefold() for w in stopwords or ()}

    def keep(word: str) -> str:
        return " ".join(w for w in word.split(" ") if (w if case_sensitive else w.casefold()) not in stops)

    words = [change(keep(_without_accents(str(w)))) for w in x.ravel()]
    if x.ndim == 2 and x.shape[0] > 1:
        return np.array(words, dtype=object).reshape(x.shape)
    words = [w for w in words if w] or [""]
    return np.array(words, dtype=object).reshape((1, -1) if x.ndim == 2 else -1)


def _without_accents(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))


def full_match(x: np.ndarray, pattern: str) -> Tensor:
    """Return whether each string matches the pattern from end to end."""
    regex = re.compile(pattern)
    return torch.tensor([regex.fullmatch(str(s)) is not None for s in x.ravel()], dtype=torch.bool).reshape(x.shape)


def ngrams(pool: Sequence[Any], counts: Sequence[int], indexes: Sequence[int]) -> list[tuple[list[Any], int]]:
    """Return each n-gram of a pool with the column that counts it; ``counts`` says where each length begins."""
    starts = [*counts, len(pool)]
    grams: list[list[Any]] = []
    for length, (start, end) in enumerate(itertools.pairwise(starts), 1):
        grams += [list(pool[i : i + length]) for i in range(start, end, length)]
    return list(zip(grams, indexes, strict=True))


def tfidf(
    x: Any, grams: list[tuple[list[Any], int]], shortest: int, longest: int, skips: int, mode: str,
    weights: list[float] | None,
) -> Tensor:  # fmt: skip
    """Count n-grams in each row, up to ``skips`` items apart: TF counts, IDF marks, TFIDF weighs counts."""
    items = x.tolist()
    rows = items if x.ndim == 2 else [items]
    columns = {tuple(gram): column for gram, column in grams if shortest <= len(gram) <= longest}
    width = max(column for _, column in grams) + 1
    result = torch.zeros(len(rows), width)
    for number, row in enumerate(rows):
        for length in range(shortest, longest + 1):
            for skip in range(1 if length == 1 else skips + 1):
                step = skip + 1
                for start in range(len(row) - (length - 1) * step):
                    column = columns.get(tuple(row[start : start + (length - 1) * step + 1 : step]))
                    if column is not None:
                        result[number, column] += 1
    factors = torch.ones(width)
    if weights is not None:
        for (_, column), weight in zip(grams, weights, strict=True):
            factors[column] = weight
    result = result if mode == "TF" else (result > 0) * factors if mode == "IDF" else result * factors
    return result if x.ndim == 2 else result[0]


_FORMATS = ("BMP", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_MAX_PIXELS = 2**27


def decode_image(encoded: Tensor, pixel_format: str) -> Tensor:
    """Decode an image file (uint8 bytes) to (H, W, C) uint8, C in the order RGB or BGR, or 1 for Grayscale.

    Raises:
        ValueError: more than 2²⁷ pixels.
    """
    from PIL import Image

    with Image.open(io.BytesIO(encoded.cpu().numpy().tobytes()), formats=_FORMATS) as image:
        if image.width * image.height > _MAX_PIXELS:
            raise ValueError(f"ImageDecoder: got {image.width}×{image.height} pixels, expected at most {_MAX_PIXELS}")
        pixels = np.array(image.convert("L" if pixel_format == "Grayscale" else "RGB"))
    pixels = pixels[:, :, None] if pixel_format == "Grayscale" else pixels
    return torch.from_numpy(pixels[:, :, ::-1].copy() if pixel_format == "BGR" else pixels).to(encoded.device)
