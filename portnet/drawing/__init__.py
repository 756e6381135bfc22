"""Drawings as SVG and PNG: learning curves, confusion, calibration, a network's graph. Plain data in, no run known.

theme.py     colours by role, for light and dark
canvas.py    what can be drawn: rectangles, paths, text
svg.py png.py   the two canvases
text.py      text for XML, and its width
axes.py      frames, ticks, grid
curves.py calibration.py confusion.py   charts
blocks.py layout.py columns.py network.py   a network: boxes, their places, columns, the drawing
"""
