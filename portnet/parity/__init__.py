"""Proof: two networks that should agree are run on the same inputs and compared, layer by layer where they differ."""
