"""The C++ compiler AOTInductor needs, and the processor it compiles for."""

from __future__ import annotations

import functools
import os
import platform
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from shipway.errors import EngineMissing

__all__ = [
    "INSTALL",
    "cpu_features",
    "find_compiler",
    "knows_native_vectors",
    "require_compiler",
]

INSTALL = "apt-get install g++  (Debian, Ubuntu), or dnf install gcc-c++  (Fedora)"
_FEATURE = re.compile(
    r"sse|ssse|avx|fma|f16c|bmi|amx|vaes|vpclmul|gfni|aes|pclmul|adx|movbe|popcnt|abm"  # x86
    r"|asimd|neon|sve|sme|bf16|i8mm|fp"  # Arm
)
_VECTOR_MACROS = {
    "AVX512": ("__AVX512F__", "__AVX512DQ__", "__AVX512VL__", "__AVX512BW__", "__FMA__"),
    "AVX2": ("__AVX2__", "__FMA__"),
}


def find_compiler() -> str | None:
    """Return the C++ compiler that torch would call (CXX, or g++); None where there is none."""
    words = shlex.split(os.environ.get("CXX", "g++")) or ["g++"]
    return shutil.which(words[0])


def require_compiler() -> str:
    """Return the C++ compiler.

    Raises:
        EngineMissing: There is none.
    """
    found = find_compiler()
    if found is None:
        wanted = os.environ.get("CXX", "g++")
        raise EngineMissing("aotinductor", install=INSTALL, why=f"no C++ compiler '{wanted}'")
    return found


@functools.cache
def cpu_features() -> tuple[str, ...]:
    """Return the architecture and the instruction sets of this processor that a compiler may use."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = match.group(1).split() if match else []
    return (platform.machine(), *sorted(flag for flag in flags if _FEATURE.match(flag)))


def knows_native_vectors(compiler: str, capability: str) -> bool:
    """Whether `compiler` knows the widest vectors of this processor, as torch itself does.

    AOTInductor finds out by compiling three test programs, which takes longer than the model and,
    when it fails on a busy machine, silently gives code without vectors. The compiler's own macros
    and the vectors torch was built with answer the same question in milliseconds.

    Args:
        compiler: Path of the compiler.
        capability: What torch.backends.cpu.get_cpu_capability() returns.
    """
    wanted = _VECTOR_MACROS.get(capability, ())
    wider_unused = capability == "AVX2" and "avx512f" in cpu_features()
    if not wanted or wider_unused:
        return False
    command = [compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- the user's own compiler
    macros = set(re.findall(r"^#define (\w+)", listed.stdout, re.MULTILINE))
    return macros.issuperset(wanted)
