"""What kind of fault makes one tensor wrong: explanations that are tried on its numbers."""
