"""SqueezeNet with a new convolution at its end, trained whole and with layers 1 to 16 frozen: two curves in one plot.

python examples/squeezenet_freeze_first_16.py [PHOTOS] --backend torch

The workflow of a MATLAB forum: 30% of each class for validation every 3 steps; random reflection, shifts of up to 30
pixels, scales of 0.9 to 1.1; SGD with momentum at 1e-4, batches of 10. Of the frozen layers four views are kept.
"""

import typer

import portnet
from portnet.data.augment import Augment
from portnet.data.samples import write_digits
from portnet.drawing.curves import plot_curves

SETTINGS = {"optimizer": "sgd", "lr": 1e-4, "batch_size": 10, "val": 0.3, "val_every": "3 steps"}


def main(data: str = typer.Argument(""), backend: str = "torch", epochs: int = 12, size: int = 96) -> None:
    """Fine-tune twice and say how each ended."""
    curves = []
    for name, freeze, views in (("whole", "none", 0), ("layers 1–16 frozen", "first:16", 4)):
        run = portnet.finetune(
            data or write_digits("digits-seven", "0123456", count=40),
            backend=backend,
            head=portnet.Head.conv(),
            freeze=freeze,
            augment=Augment(horizontal_flip=True, translate=30 * size / 227, scale=(0.9, 1.1)),
            augment_views=views,
            size=size,
            epochs=epochs,
            **SETTINGS,
        )
        curves.append(run.curves(name))
        print(f"{name}: validation accuracy {run.history[-1].val_accuracy:.2%}")
    plot_curves(curves, "squeezenet_freeze_first_16.svg")


if __name__ == "__main__":
    typer.run(main)
