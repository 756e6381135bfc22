"""The graph: `Model`, canonical form, roles of initializers, layers, cutting, metadata.

Imports onnx and onnx_ir when a submodule is imported, and no framework ever.
"""
