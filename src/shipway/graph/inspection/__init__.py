"""What a model file holds and what running it takes, as plain data; weights are never read."""
