"""Passes of canonical form: small rewrites of an `onnx_ir.Model` in place, one idea a file.

A pass is a function of the model. It says in its docstring what it requires of the graph and what it ensures.
`portnet.graph.canonical` lists them in order; each is tested alone.
"""
