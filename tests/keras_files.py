"""``python keras_files.py FOLDER``: a small network in each of the files that Keras writes."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from keras import layers


def network() -> keras.Model:
    """Return convolutions, a norm, a recurrent layer and a network within the network."""
    x = keras.Input((8, 8, 3), name="photo")
    y = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", name="conv")(x)
    y = layers.BatchNormalization(name="norm")(y)
    y = keras.Sequential([keras.Input((4, 4, 4)), layers.DepthwiseConv2D(3), layers.ReLU(6.0)], name="inner")(y)
    y = layers.LSTM(3, name="memory")(layers.Reshape((4, 4))(y))
    return keras.Model(x, layers.Dense(2, activation="softmax", name="classes")(y), name="small")


def main(folder: Path) -> None:
    """Write net.keras, net.h5 and net.json."""
    small = network()
    small.save(folder / "net.keras")
    small.save(folder / "net.h5")
    (folder / "net.json").write_text(small.to_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
