"""Run the same fine-tuning on every installed engine, and draw the loss curves into one plot: they coincide.

python examples/same_run_three_engines.py [PHOTOS] --drawing curves.svg
"""

import typer

import portnet
from portnet.data.samples import write_digits
from portnet.drawing.curves import plot_curves
from portnet.engines import installed


def main(
    data: str = typer.Argument(""), drawing: str = "same_run_three_engines.svg", epochs: int = 3, size: int = 96
) -> None:
    """Fine-tune on each engine and compare the losses step by step."""
    photos = data or write_digits("digits-60", count=60)
    runs = [
        portnet.finetune(
            photos,
            backbone="squeezenet1_1",
            backend=engine,
            head=portnet.Head.linear(),
            freeze=portnet.FreezePolicy.until("fire5"),
            epochs=epochs,
            optimizer="sgd",
            lr=1e-4,
            size=size,
        )
        for engine in installed()
    ]
    steps = list(zip(*(run.history.losses for run in runs), strict=True))
    print(f"{len(steps)} steps, largest difference between engines {max(max(s) - min(s) for s in steps):.2e}")
    plot_curves([run.curves(run.settings.backend) for run in runs], drawing)


if __name__ == "__main__":
    typer.run(main)
