"""`recommend`: how to use a pretrained network on these images, with the reasons.

The advice is that of MathWorks' "Pretrained Deep Neural Networks" (fewer than 20 images a class: features and a
support vector machine) and of the usual four cases of transfer learning, by how many images there are and how alike
they are to ImageNet (https://cs231n.github.io/transfer-learning/):

================  ==========================================  =====================================
images a class    like ImageNet                               unlike ImageNet
================  ==========================================  =====================================
fewer than 20     features of the last layers, and an SVM     features of an earlier layer, an SVM
20 to 999         freeze the backbone, train a new head       freeze early layers, train the others
1,000 and more    fine-tune everything                        fine-tune everything
================  ==========================================  =====================================

Likeness is measured by asking an ImageNet network: on what it knows it is sure, on what it does not know its answer is
spread over many classes (Hendrycks & Gimpel 2017, https://arxiv.org/abs/1610.02136). It is a rule of thumb: with
MobileNetV2, scikit-image's and scikit-learn's photographs score 0.7 to 0.99, handwritten digits 0.4, noise 0.4.
"""

from __future__ import annotations

import math
import os
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from portnet.data.dataset import Dataset, DatasetSource, load_dataset
from portnet.data.folders import find_splits
from portnet.data.rng import Purpose, generator
from portnet.data.skipped import Skipped
from portnet.errors import InputError
from portnet.graph.model import Model
from portnet.runtime.session import Session
from portnet.sources import find_model

__all__ = ["Likeness", "Recommendation", "measure_likeness", "recommend"]

FEW, MANY = 20, 1000
"""Images a class: fewer than `FEW` are too few to train on; `MANY` are about as many as ImageNet itself has."""

LIKE = 0.6
SAMPLE = 200

Approach = Literal["features", "earlier features", "freeze", "freeze early layers", "fine-tune"]


@dataclass(frozen=True)
class Likeness:
    """How alike images are to those a network was trained on.

    Attributes:
        network: the network that was asked.
        images: how many it was asked about.
        confidence: mean probability of its likeliest class, 0..1.
        score: 1 − mean entropy of its answers / the largest possible entropy, 0..1.
    """

    network: str
    images: int
    confidence: float
    score: float

    @property
    def is_like(self) -> bool:
        """Whether the score is at least `LIKE`."""
        return self.score >= LIKE


@dataclass(frozen=True)
class Recommendation:
    """What to do, why, and how.

    Attributes:
        approach: the one of the table's cells.
        advice: it in a sentence.
        reasons: what it follows from.
        commands: what to type.
        classes: how many there are.
        smallest: images of the smallest class.
        median: images of the class in the middle; decides.
        largest: images of the largest class.
        likeness: to ImageNet.
        skipped: images that were left out, with the reason.
    """

    approach: Approach
    advice: str
    reasons: tuple[str, ...]
    commands: tuple[str, ...]
    classes: int
    smallest: int
    median: float
    largest: int
    likeness: Likeness
    skipped: tuple[Skipped, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "is_like": self.likeness.is_like}


def recommend(
    data: DatasetSource,
    *,
    model: str | os.PathLike[str] | Model = "mobilenet_v2",
    seed: int = 0,
    on_error: str = "fail",
) -> Recommendation:
    """Return how to use a pretrained network on these images.

    Args:
        data: as for `portnet.finetune`; of a folder with ``train`` and others, ``train`` is meant.
        model: a classifier trained on ImageNet, which is asked how alike the images are.
        seed: decides which images it is asked about.
        on_error: what an unreadable image does: "fail" or "skip".

    Raises:
        DataError: images that cannot be used.
        WeightsError: the network's weights cannot be had.
    """
    dataset = _training_images(data, on_error)
    network = find_model(model)
    likeness = measure_likeness(dataset, network, seed=seed)
    counts = sorted(dataset.counts().values())
    median = float(np.median(counts))
    name = os.fspath(data) if isinstance(data, (str, os.PathLike)) else "DATA"
    # what lies outside the class folders is left out in any case
    images = shlex.quote(name) + (" --on-error skip" if on_error == "skip" and dataset.skipped else "")
    approach = _approach(median, likeness.is_like)
    return Recommendation(
        approach,
        _ADVICE[approach],
        tuple(_reasons(counts, median, likeness)),
        tuple(_commands(approach, images, _typed(model, network), network, counts)),
        len(counts),
        counts[0],
        median,
        counts[-1],
        likeness,
        dataset.skipped,
    )


def measure_likeness(dataset: Dataset, model: Model, *, sample: int = SAMPLE, seed: int = 0) -> Likeness:
    """Ask an ImageNet classifier about a seeded sample of the images.

    Raises:
        InputError: a network of fewer than 100 classes, whose being sure says little.
    """
    chosen = generator(Purpose.SPLIT, seed, 0).permutation(len(dataset))[:sample]
    probabilities = Session(model).predict([dataset.items[i] for i in chosen]).probabilities.astype(np.float64)
    classes = probabilities.shape[1]
    if classes < 100:
        raise InputError(f"likeness: got a network of {classes} classes, expected one trained on ImageNet's 1,000")
    logs = np.log(np.maximum(probabilities, np.finfo(np.float64).tiny))
    entropy = float(-(probabilities * logs).sum(axis=1).mean())
    confidence = float(probabilities.max(axis=1).mean())
    return Likeness(model.name, len(chosen), confidence, 1 - entropy / math.log(classes))


def _training_images(data: DatasetSource, on_error: str) -> Dataset:
    folders = find_splits(data) if isinstance(data, (str, os.PathLike)) and Path(data).is_dir() else {}
    return load_dataset(folders.get("train", data), on_error=on_error)  # type: ignore[arg-type]


def _approach(median: float, is_like: bool) -> Approach:
    if median < FEW:
        return "features" if is_like else "earlier features"
    if median < MANY:
        return "freeze" if is_like else "freeze early layers"
    return "fine-tune"


_ADVICE: dict[Approach, str] = {
    "features": "Take features from a pretrained network's last layers and train a support vector machine on them.",
    "earlier features": "Take features from an earlier layer and train a support vector machine on them.",
    "freeze": "Freeze the pretrained backbone and train a new head; augment the images.",
    "freeze early layers": "Keep the early layers frozen and train the later ones and a new head; augment the images.",
    "fine-tune": "Fine-tune the whole network, with the new head's learning rate at ten times the others'.",
}


# what the features are worth
_MACHINE = (
    'python -c "import numpy as np; from sklearn.svm import SVC; from sklearn.model_selection import cross_val_score; '
    "f = np.load('features.npz'); print(cross_val_score(SVC(), f['features'], f['labels'], cv={folds}).mean())\""
)


def _reasons(counts: list[int], median: float, likeness: Likeness) -> list[str]:
    reasons = [_reason_of_size(counts, median), _reason_of_likeness(likeness)]
    if counts[-1] > 5 * counts[0]:
        reasons.append(
            f"The largest class has {counts[-1] / counts[0]:.0f} times the images of the smallest: watch each class's "
            "recall, and weigh the classes in the loss (class_weights)."
        )
    return reasons


def _reason_of_size(counts: list[int], median: float) -> str:
    span = f"{counts[0]:,}" if counts[0] == counts[-1] else f"{counts[0]:,} to {counts[-1]:,} (median {median:,.0f})"
    size = f"{len(counts)} classes of {span} images"
    if median < FEW:
        return f"{size}: fewer than {FEW} a class are too few to train layers on; a network would learn them by heart."
    if median < MANY:
        return f"{size}: too few to train a whole network without overfitting, enough for a part of one."
    return f"{size}: about as many a class as ImageNet has, enough to train everything."


def _reason_of_likeness(likeness: Likeness) -> str:
    measured = (
        f"{likeness.network}, asked about {likeness.images} of the images, is sure to {likeness.confidence:.0%} on "
        f"average (likeness {likeness.score:.2f}, the line is at {LIKE})"
    )
    if likeness.is_like:
        return f"{measured}: they are like ImageNet's, so its last layers' features say what is in them."
    return f"{measured}: they are unlike ImageNet's, so only its early layers' edges and textures carry over."


def _typed(model: str | os.PathLike[str] | Model, network: Model) -> str:
    """Return what to type for a network: a graph's own name means nothing to a command."""
    return shlex.quote(os.fspath(model)) if isinstance(model, (str, os.PathLike)) else network.name or "MODEL"


def _commands(approach: Approach, data: str, name: str, model: Model, counts: list[int]) -> list[str]:
    stage = _middle_stage(model)
    layer = f" --layer {stage}" if approach == "earlier features" and stage else ""
    base = f"portnet finetune {data} --backbone {name}"
    augment = " --augment" if float(np.median(counts)) < MANY else ""
    folds = min(5, counts[0])
    machine = [_MACHINE.format(folds=folds)] if folds > 1 else []
    return {
        "features": [f"portnet features {data} --model {name} -o features.npz", *machine],
        "earlier features": [f"portnet features {data} --model {name}{layer} -o features.npz", *machine],
        "freeze": [f"{base} --freeze backbone{augment}"],
        "freeze early layers": [f"{base} --freeze {f'until:{stage}' if stage else 'first:16'}{augment}"],
        "fine-tune": [f"{base} --freeze none --lr-mult head=10 --lr 1e-4"],
    }[approach]


def _middle_stage(model: Model) -> str:
    stages = list(dict.fromkeys(layer.stage for layer in model.layers if layer.stage))
    return stages[len(stages) // 2 - 1] if len(stages) > 1 else ""
