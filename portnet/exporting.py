"""`export_network`: whatever a user calls a network becomes an .onnx file, proved, or no file at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from portnet.capturing import Capture, capture_original
from portnet.engines import engine, installed
from portnet.errors import InputError, OutputError
from portnet.finetuning.run import Run
from portnet.graph.deploy import deploy as fold_for_deployment
from portnet.graph.model import Model
from portnet.originals import Request, is_original
from portnet.parity.check import check
from portnet.sources import find_model, is_zoo_name

__all__ = ["export_network"]


def export_network(
    source: str,
    output: Path,
    request: Request,
    *,
    deploy: bool = False,
    images: Any = None,
    progress: Callable[[str], None] | None = None,
) -> Capture:
    """Write a network as .onnx once it is proved.

    Args:
        source: a run's folder, a name in the zoo, an .onnx file, or what `portnet.originals` opens.
        output: the file to write.
        request: what else is known of an original; its weights also go onto a network of the zoo.
        deploy: whether to fold for inference.
        images: images to compare on besides random input.
        progress: called with a few words as each step begins.

    Returns:
        The network and its proof.

    Raises:
        ParityError: the two differ; no file is left.
        OutputError: the file cannot be written.
        PortNetError: the source cannot be opened; see `portnet.originals.open_original`.
    """
    say = progress or (lambda step: None)
    if not output.parent.is_dir() or output.is_dir():
        raise OutputError(f"cannot write {output}: expected a file's name in a folder that exists")
    if is_original(source) and not is_zoo_name(source):
        found = capture_original(source, request, images=images, deploy=deploy, progress=progress)
    else:
        found = _own(source, request, deploy, images, say)
    say(f"write {output.name}")
    found.model.save(output)
    return found


def _own(source: str, request: Request, deploy: bool, images: Any, say: Callable[[str], None]) -> Capture:
    """Prove a network that is PortNet's own: a run on its engine, others on the first engine that is installed."""
    say(f"read {source}")
    if Path(source).is_dir() and not is_zoo_name(source):
        if request.weights is not None:
            raise InputError(f"weights: got {request.weights} for the run {source}, which has its own. Leave them out.")
        run = Run.load(source)
        say(f"compare with {run.settings.backend}, which it was trained on")
        model, network, way = run.model, run.lowered, f"fine-tuned on {run.settings.backend}"
    else:
        model = find_model(source, weights=request.weights or "imagenet") if is_zoo_name(source) else find_model(source)
        name = next(iter(installed()), "torch")
        say(f"lower onto {name} and compare")
        network, way = engine(name).lower(model), "PortNet's own graph"
    exported: Model = fold_for_deployment(model) if deploy else model
    report = check(network, exported, images=images)
    report.raise_if_failed()
    return Capture(exported, way, (), report)
