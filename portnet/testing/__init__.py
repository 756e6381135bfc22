"""What every engine is measured by: the ONNX standard's own suite, and the contract's conformance tests."""
