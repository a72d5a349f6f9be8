"""Runtimes that compile and run a model, one module each, behind the contract in `base`."""
