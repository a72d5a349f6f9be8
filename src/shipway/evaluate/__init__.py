"""Accuracy on a data set: samples, preprocessing, Top-N counts, flips against golden."""
