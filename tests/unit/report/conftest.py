"""The sample reports, for every test of the report."""

import importlib.util
import sys
from pathlib import Path

import pytest


def _load_samples():
    spec = importlib.util.spec_from_file_location(
        "report_sample", Path(__file__).with_name("sample.py")
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def samples():
    """The module `sample.py`: `make_report()` and its parts."""
    return _load_samples()


@pytest.fixture
def report(samples):
    """Golden, three engines within and beyond their limits, and one that failed."""
    return samples.make_report()
