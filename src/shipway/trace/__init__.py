"""Taps, traces and goldens: the intermediate tensors of an execution, and what they should be."""
