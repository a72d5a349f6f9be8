"""Dumps that other tools wrote, read as traces."""
