"""The frozen prefix: what training never changes runs once, and only the rest is trained.

The frozen part of a network is a function of the data alone. The graph is cut at the freeze frontier (`frontier`), the
prefix runs once over all images in onnxruntime (`compute`), its activations are kept in memory or in files (`store`,
by `key`), and each epoch reads them instead of the images (`batches`). `keep` is the whole story. Losses equal those of
the uncut run but for rounding.
"""
