"""The table of Darknet's sections: name → function that writes it onto the graph."""

from __future__ import annotations

from portnet.formats.darknet.layer import Builder
from portnet.formats.darknet.layers import avgpool, connected, convolutional, cost, dropout, maxpool, softmax
from portnet.formats.darknet.local import local
from portnet.formats.darknet.recurrent import gru, lstm
from portnet.formats.darknet.wiring import crop, reorg, route, sam, scale_channels, shortcut, upsample

__all__ = ["HEADS", "RECURRENT", "TABLE"]

# sections that decode boxes from what they read, which is an output of the captured network
HEADS = frozenset({"yolo", "region", "detection", "Gaussian_yolo"})

# sections whose axis 0 is time
RECURRENT = frozenset({"gru", "lstm", "rnn"})

TABLE: dict[str, Builder] = {
    **dict.fromkeys(("convolutional", "conv"), convolutional),
    **dict.fromkeys(("connected", "conn"), connected),
    **dict.fromkeys(("maxpool", "max"), maxpool),
    **dict.fromkeys(("avgpool", "avg"), avgpool),
    **dict.fromkeys(("softmax", "soft"), softmax),
    **{"dropout": dropout, "route": route, "shortcut": shortcut, "upsample": upsample, "reorg": reorg, "cost": cost},
    **{"crop": crop, "local": local, "scale_channels": scale_channels, "sam": sam, "gru": gru, "lstm": lstm},
}
