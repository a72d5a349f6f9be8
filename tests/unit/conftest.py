"""Fixtures of the unit tests."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from shipway.native.build import find_compiler
from shipway.ops import find_operator
from shipway.source.operators import load_operator_files

PROBE = Path(__file__).parent / "ops" / "probe" / "operators.py"
collect_ignore = [str(PROBE)]  # it defines operators, which can be done once


@pytest.fixture(scope="session")
def probe():
    """Operators with a kernel that use everything an adapter has to carry."""
    if find_compiler() is None:
        pytest.skip("needs a C++ compiler")
    load_operator_files([PROBE])
    names = ("combine", "compress", "refuse")
    return SimpleNamespace(**{name: find_operator(f"probe::{name}") for name in names})
