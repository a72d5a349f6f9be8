"""Shipway: from a PyTorch model to a deployed engine that is proved right and measured fast."""
