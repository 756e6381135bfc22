"""One way to run an image network wherever it is asked to run: in onnxruntime or on an engine."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from portnet.engines import engine
from portnet.errors import InputError
from portnet.graph.model import Model
from portnet.runtime.session import Session

__all__ = ["Predictor", "predictor"]


class Predictor(Protocol):
    """Anything with ``predict``: float32 (N, C, H, W) in, logits out."""

    def predict(self, x: np.ndarray) -> Any:
        """Return logits (N, classes)."""


class _SessionPredictor:
    def __init__(self, session: Session) -> None:
        self._session = session

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self._session.logits(x)


def predictor(model: Model, backend: str | None, provider: str | None) -> tuple[Predictor, str]:
    """Return (network, where it runs): on an engine when ``backend`` names one, else in onnxruntime.

    Raises:
        InputError: both a backend and a provider: an engine has no execution providers.
    """
    if backend is not None and provider is not None:
        raise InputError(
            f"provider: got {provider!r} with backend {backend!r}, expected one of them: providers are onnxruntime's."
        )
    if backend is not None:
        adapter = engine(backend)
        return adapter.lower(model), f"{adapter.framework} {adapter.version()}"
    session = Session(model, provider=provider)
    return _SessionPredictor(session), f"onnxruntime ({session.provider})"
