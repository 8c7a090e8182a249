"""From a PyTorch model to ONNX graphs: trace, fuse, lower the precision."""
