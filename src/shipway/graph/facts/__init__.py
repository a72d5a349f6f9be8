"""What is known of a value without running anything: dtype, symbolic shape, symbolic content."""
