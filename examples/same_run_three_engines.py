"""Run the same fine-tuning on every installed engine, and draw the loss curves: they coincide.

python examples/same_run_three_engines.py photos/ curves.svg
"""

import sys

import portnet
from portnet.drawing.curves import plot_curves
from portnet.engines import installed


def main(data: str, drawing: str) -> None:
    """Fine-tune on each engine and compare the losses step by step."""
    runs = [
        portnet.finetune(
            data,
            backbone="squeezenet1_1",
            backend=engine,
            head=portnet.Head.linear(),
            freeze=portnet.FreezePolicy.until("fire5"),
            epochs=3,
            optimizer="sgd",
            lr=1e-4,
            size=96,
        )
        for engine in installed()
    ]
    steps = list(zip(*(run.history.losses for run in runs), strict=True))
    print(f"{len(steps)} steps, largest difference between engines {max(max(s) - min(s) for s in steps):.2e}")
    plot_curves([run.curves(run.settings.backend) for run in runs], drawing)


if __name__ == "__main__":
    main(*sys.argv[1:])
