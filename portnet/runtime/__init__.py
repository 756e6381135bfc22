"""Running networks through onnxruntime: providers, sessions, predictions. onnxruntime is imported on first use."""
