"""The rules of simplification: one file each, named for what it does."""
