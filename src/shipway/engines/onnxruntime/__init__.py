"""ONNX Runtime: runs the .onnx file as it is, optimised when the session starts."""

from shipway.engines.onnxruntime.engine import OnnxRuntimeEngine, resolve_types

__all__ = ["OnnxRuntimeEngine", "resolve_types"]
