"""PyTorch itself, running the exported program operator by operator: the golden of every comparison."""

from shipway.engines.torch.engine import TorchEngine

__all__ = ["TorchEngine"]
