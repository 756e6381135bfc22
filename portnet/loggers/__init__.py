"""Loggers: callbacks that write a run's numbers where other tools show them. Each needs an extra of its name."""

from __future__ import annotations

from typing import Any

from portnet.errors import InputError, UnknownNameError

__all__ = ["LOGGERS", "logger"]

LOGGERS = ("tensorboard", "mlflow")


def logger(text: str) -> Any:
    """Return the logger that ``tensorboard:DIR`` or ``mlflow[:URI]`` asks for, as a callback.

    Raises:
        UnknownNameError: another logger.
        InputError: tensorboard without a folder.
        MissingDependencyError: its package is not installed.
    """
    name, _, where = text.partition(":")
    if name not in LOGGERS:
        raise UnknownNameError("logger", name, ["tensorboard:DIR", "mlflow", "mlflow:URI"])
    if name == "mlflow":
        from portnet.loggers.mlflow import MLflow

        return MLflow(where or None)
    if not where:
        raise InputError("logger: got tensorboard without a folder, expected e.g. tensorboard:logs/pets")
    from portnet.loggers.tensorboard import TensorBoard

    return TensorBoard(where)
