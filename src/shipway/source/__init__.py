"""What the user hands in: a Python model, an exported program or an ONNX file."""
