"""PyTorch to ONNX, with a name map that leads from every ONNX value back to its source line."""
