"""Runs that take a second on any engine: a network of two convolutions on images of 12 × 12 pixels."""

import numpy as np

from portnet.finetuning.head import Head
from portnet.graph.layers import STAGE_MARK
from portnet.graph.metadata import Preprocessing
from portnet.testing.networks import convnet

CLASSES = 3


def small_backbone():
    """Return `convnet` as a backbone with the stages "stem" and "group", batch norm in both."""
    model = convnet()
    for node in model.ir.graph:
        node.metadata_props[STAGE_MARK] = (
            "stem" if node.outputs[0].name in ("stem", "bn1", "relu1", "pool") else "group"
        )
    model.preprocessing = Preprocessing(size=(12, 12), mean=(0.5,) * 3, std=(0.25,) * 3)
    return model


def small_images(count=24, seed=0):
    """Return (uint8 images, labels): classes that differ in brightness and noise."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    pixels = generator.integers(0, 120, (count, 12, 12, 3)) + 60 * labels[:, None, None, None]
    return pixels.astype(np.uint8), [f"class {label}" for label in labels]


def small_settings(**changes):
    """Return arguments of `portnet.finetune`: 3 steps an epoch, dropout and batch norm in the head."""
    return {
        "backbone": small_backbone(),
        "head": Head.mlp((8,), dropout=0.5, batch_norm=True),
        "batch_size": 6,
        "val": 0.25,
        "seed": 3,
        "progress": False,
        **changes,
    }
