"""The C++ compiler and the processor."""

import shutil
from pathlib import Path

import pytest

from shipway.engines.aotinductor import compiler
from shipway.engines.aotinductor.compiler import (
    cpu_features,
    find_compiler,
    knows_native_vectors,
    require_compiler,
)
from shipway.errors import EngineMissing

GXX = shutil.which("g++")
needs_gxx = pytest.mark.skipif(GXX is None, reason="needs g++")


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_cxx_decides_as_it_does_for_torch(tmp_path, monkeypatch):
    """A path, a name on PATH, or g++; options behind it are not part of the name."""
    mine = script(tmp_path / "my-c++", "")
    monkeypatch.setenv("CXX", f"{mine} -v")
    assert find_compiler() == mine
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert find_compiler() is None
    monkeypatch.delenv("CXX")
    assert find_compiler() == GXX


def test_no_compiler_is_engine_missing_with_the_command_that_brings_one(monkeypatch):
    """Exit code 3; the message names what was looked for."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EngineMissing, match="no C\\+\\+ compiler 'no-such-compiler'") as caught:
        require_compiler()
    assert "apt-get install g++" in caught.value.hint


def test_features_are_instruction_sets_and_the_architecture():
    """Not what a hypervisor or the kernel adds to the flags."""
    architecture, *features = cpu_features()
    assert architecture
    assert features == sorted(features)
    assert not {"hypervisor", "tsc", "apic", "nx"} & set(features)


@needs_gxx
def test_the_compiler_is_asked_and_not_believed_blindly(tmp_path, monkeypatch):
    """True only where torch's vectors are the CPU's widest and the compiler has a macro for each."""
    knows_everything = script(
        tmp_path / "new",
        "for m in __AVX2__ __FMA__ __AVX512F__ __AVX512DQ__ __AVX512VL__ __AVX512BW__; "
        'do echo "#define $m 1"; done',
    )
    knows_nothing = script(tmp_path / "old", 'echo "#define __SSE2__ 1"')
    fails = script(tmp_path / "broken", "exit 1")
    monkeypatch.setattr(compiler, "cpu_features", lambda: ("x86_64", "avx2", "avx512f"))
    assert knows_native_vectors(knows_everything, "AVX512")
    assert not knows_native_vectors(knows_nothing, "AVX512")
    assert not knows_native_vectors(fails, "AVX512")
    assert not knows_native_vectors(knows_everything, "DEFAULT")
    # torch was built without the AVX-512 this CPU has: kernels with it would not link.
    assert not knows_native_vectors(knows_everything, "AVX2")
    monkeypatch.setattr(compiler, "cpu_features", lambda: ("x86_64", "avx2"))
    assert knows_native_vectors(knows_everything, "AVX2")
