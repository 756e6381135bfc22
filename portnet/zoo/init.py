"""What the architectures draw their parameters with, see `portnet.weights.init`."""

from __future__ import annotations

from portnet.weights.init import Init, constant, fan_in_uniform, he_normal, he_uniform, normal

__all__ = ["Init", "constant", "fan_in_uniform", "he_normal", "he_uniform", "normal"]
