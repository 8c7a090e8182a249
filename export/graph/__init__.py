"""From a PyTorch model to ONNX graphs: trace, write for a device, lower the precision."""
