"""Gluon's ResNet-18 v2 with a new output layer whose learning rate is ten times that of the others.

python examples/gluon_resnet18_v2_lr_mult.py [PHOTOS] --backend gluon --weights imagenet

The workflow of MXNet's cats and dogs: two classes, 224×224 pixels, batches of 32, Xavier for the new layer, SGD at
0.002 and 0.02, every layer trains. ImageNet weights are downloaded with --weights imagenet. Offline, by default,
weights are random and the input is small, so this is the tutorial's slower case: training from scratch.
"""

import typer

import portnet
from portnet.data.samples import write_digits


def main(
    data: str = typer.Argument(""), backend: str = "gluon", weights: str = "", epochs: int = 8, size: int = 0
) -> None:
    """Fine-tune, print the rates of the first and last layers and the accuracy on images never seen."""
    run = portnet.finetune(
        data or write_digits("digits-two", "38", count=120),
        backbone="resnet18_v2",
        weights=weights or None,
        backend=backend,
        head=portnet.Head.linear(),
        freeze=portnet.FreezePolicy.none(lr_mult={"head": 10}),
        optimizer="sgd",
        lr=0.002,
        epochs=epochs,
        batch_size=32,
        test=0.2,
        size=size or (224 if weights else 48),
    )
    rates = [(row["layer"], row["lr_mult"]) for row in run.record["policy"]]
    print(f"learning-rate factors: {rates[0]}, ..., {rates[-1]}")
    print(f"test accuracy {run.test['accuracy']:.2%} after {len(run.history)} epochs")


if __name__ == "__main__":
    typer.run(main)
