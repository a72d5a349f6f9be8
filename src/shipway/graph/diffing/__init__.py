"""The difference of two graphs: aligned by structure, then listed."""
