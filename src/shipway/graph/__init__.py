"""ONNX graphs: loaded without their weights, read, simplified, edited and saved. Runs nothing."""
