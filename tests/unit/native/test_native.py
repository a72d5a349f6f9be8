"""The native library, where Shipway was installed with a compiler."""

import re
from pathlib import Path

import pytest

from shipway import native
from shipway.native import ISA_LEVELS, isa_level, load_native

NEEDS = {
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx2", "fma", "f16c", "avx512f", "avx512dq", "avx512bw", "avx512vl"},
}


@pytest.mark.skipif(load_native() is None, reason="installed without a compiler")
def test_the_level_is_what_the_kernel_says_of_this_processor() -> None:
    text = Path("/proc/cpuinfo").read_text()
    match = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    flags = set(match.group(1).split()) if match else set()
    best = [level for level, needs in NEEDS.items() if needs <= flags]
    assert isa_level() == (best[-1] if best else "portable")
    assert isa_level() in ISA_LEVELS


def test_without_the_library_the_level_is_unknown_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native, "load_native", lambda: None)
    assert isa_level() is None
