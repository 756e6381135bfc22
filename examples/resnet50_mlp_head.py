"""A frozen ResNet-50 under a head of two dense layers, and what it is worth on images never seen.

python examples/resnet50_mlp_head.py [PHOTOS] --backend torch --weights imagenet

The workflow of the Keras tutorial on Caltech-101: 80% of each class to train on, of which a fifth for validation, 20%
for the test; global average pooling → batch norm → dropout 0.5 → dense 512, ReLU → batch norm → dropout 0.5 → dense;
Adam, batches of 32, 5 epochs. ResNet-50's ImageNet weights are downloaded with --weights imagenet. Offline, by default,
its weights are random and its input is small: that is enough to tell digits apart, and for little else.
"""

import typer

import portnet
from portnet.data.samples import write_digits


def main(
    data: str = typer.Argument(""), backend: str = "keras", weights: str = "", epochs: int = 5, size: int = 0
) -> None:
    """Fine-tune, and print loss and accuracy on the test images."""
    run = portnet.finetune(
        data or write_digits("digits-all", count=60),
        backbone="resnet50",
        weights=weights or None,
        backend=backend,
        head=portnet.Head.mlp((512,), dropout=0.5, batch_norm=True),
        freeze="backbone",
        optimizer="adam",
        epochs=epochs,
        batch_size=32,
        test=0.2,
        val=0.2,
        size=size or (256 if weights else 64),
    )
    print(f"test accuracy {run.test['accuracy']:.2%}, loss {run.test['loss']:.2f}")


if __name__ == "__main__":
    typer.run(main)
