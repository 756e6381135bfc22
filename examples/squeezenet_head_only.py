"""Train the last layer of SqueezeNet alone, then list the images that it finds hardest to decide.

python examples/squeezenet_head_only.py [PHOTOS] --backend keras

The first workflow of MATLAB's toolbox: three classes, Adam, batches of 128, validation every 5 steps. It has 1,300
photos a class and a rate of 1e-4 for 50 epochs; here are 180 handwritten digits of each, and ten times the rate.
"""

import typer

import portnet
from portnet.data.samples import write_digits


def main(
    data: str = typer.Argument(""), backend: str = "torch", epochs: int = 30, lr: float = 1e-3, size: int = 227
) -> None:
    """Fine-tune, evaluate on images never seen, and print the table of ambiguity."""
    photos = data or write_digits("digits-389", "389")
    run = portnet.finetune(
        photos,
        backbone="squeezenet1_1",
        backend=backend,
        head=portnet.Head.conv(),
        freeze="backbone",
        lr=lr,
        epochs=epochs,
        batch_size=128,
        val_every="5 steps",
        test=0.2,
        size=size,
    )
    trained = run.settings.freeze.resolve(run.model).trainable_count
    print(f"{run.model.parameter_count:,} learnables, {trained:,} of them trained; input {size}×{size}×3")
    print(run.ambiguity(photos))
    run.plot("squeezenet_head_only.svg")


if __name__ == "__main__":
    typer.run(main)
