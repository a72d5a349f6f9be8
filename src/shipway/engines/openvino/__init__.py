"""OpenVINO: converts the .onnx file to its own IR and compiles that when it is loaded."""

from shipway.engines.openvino.engine import OpenVinoEngine

__all__ = ["OpenVinoEngine"]
