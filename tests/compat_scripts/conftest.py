"""These are scripts to be run, not modules to be looked into for tests."""

collect_ignore_glob = ["*.py"]
