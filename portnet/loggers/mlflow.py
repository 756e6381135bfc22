"""A run in MLflow, by its client: settings as parameters, numbers as metrics, record and network as artifacts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from portnet.errors import InputError, MissingDependencyError
from portnet.finetuning.callbacks import Callback, Start, Step
from portnet.finetuning.history import Epoch, Validation

if TYPE_CHECKING:
    from portnet.finetuning.run import Run

__all__ = ["MLflow"]

# longest value of a parameter, and most metrics in one call, that MLflow's REST interface takes
_LONGEST, _MOST = 6000, 1000


class MLflow(Callback):
    """Writes one MLflow run; the numbers of an epoch's steps go out together at its end.

    Args:
        uri: where runs are tracked, e.g. "http://localhost:5000" or "sqlite:///runs.db"; None for MLflow's own choice
            (the environment's MLFLOW_TRACKING_URI).
        experiment: the experiment's name; made if it is not there.
        name: the run's name.

    Raises:
        MissingDependencyError: mlflow is not installed.
        InputError: a place that it does not know how to use.
    """

    def __init__(self, uri: str | None = None, *, experiment: str = "portnet", name: str | None = None) -> None:
        try:
            from mlflow import MlflowClient
            from mlflow.entities import Metric
        except ImportError:
            raise MissingDependencyError("logger mlflow needs mlflow: pip install 'portnet[mlflow]'") from None
        try:
            self._client, self._metric = MlflowClient(tracking_uri=uri), Metric
        except Exception as error:
            raise InputError(f"logger mlflow: cannot track runs at {uri!r}: {' '.join(str(error).split())}") from error
        self._experiment, self._name = experiment, name
        self._run = ""
        self._waiting: list[Any] = []
        self._step = 0

    def on_start(self, start: Start) -> None:
        """Begin a run with the settings as its parameters."""
        client = self._client
        found = client.get_experiment_by_name(self._experiment)
        experiment = found.experiment_id if found is not None else client.create_experiment(self._experiment)
        self._run = client.create_run(experiment, run_name=self._name).info.run_id
        self._step = start.step
        for name, value in _flat(start.settings.to_dict()).items():
            client.log_param(self._run, name, str(value)[:_LONGEST])

    def on_step(self, step: Step) -> None:
        """Keep loss and learning rate for the end of the epoch."""
        self._step = step.step
        self._add(step.step, {"loss_step": step.loss, "learning_rate": step.lr})

    def on_validation(self, validation: Validation) -> None:
        """Write loss and accuracy."""
        self._add(validation.step, {"val_loss": validation.loss, "val_accuracy": validation.accuracy})

    def on_epoch(self, epoch: Epoch) -> None:
        """Write loss, accuracy and what has been kept."""
        self._add(self._step, {"loss": epoch.loss, "accuracy": epoch.accuracy})
        self._send()

    def on_end(self, run: Run | None) -> None:
        """Write the record, and the network where it has a file, and end the run."""
        if not self._run:
            return
        self._send()
        if run is not None:
            self._client.log_dict(self._run, run.record, "run.json")
            if run.folder is not None:
                self._client.log_artifact(self._run, str(run.folder / "model.onnx"))
        failed = run is None or run.record["ended"].startswith("failed")
        status = "FAILED" if failed else "KILLED" if run is not None and run.interrupted else "FINISHED"
        self._client.set_terminated(self._run, status)

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._waiting += [self._metric(name, value, now, step) for name, value in values.items()]

    def _send(self) -> None:
        for start in range(0, len(self._waiting), _MOST):
            self._client.log_batch(self._run, metrics=self._waiting[start : start + _MOST])
        self._waiting = []


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
