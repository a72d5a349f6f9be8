"""Evidence that a step kept what the model computes."""
