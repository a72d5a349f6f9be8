"""The usual mistakes with PyTorch's operators, each as another way to compute one node."""
