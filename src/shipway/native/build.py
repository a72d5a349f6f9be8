"""Compile kernels when they are first needed, into a cache that knows what they were made of."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from shipway.errors import CompilerMissing, EngineError, OutputError
from shipway.native.compiling import run_compiler

__all__ = [
    "ADAPTERS",
    "INCLUDE",
    "build_library",
    "cache_folder",
    "compiler_version",
    "find_compiler",
]

INCLUDE = Path(__file__).parent / "include"
"""Folder of shipway_op.h and shipway_kernel.hpp."""
ADAPTERS = Path(__file__).parent / "adapters"
"""Folder of the adapters that a kernel library is linked with."""
_FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-ffp-contract=off",  # the same results whatever instructions the compiler may use
    "-fno-math-errno",
    "-Wall",
    "-Wextra",
)
_INSTALL = "apt-get install g++  (Debian, Ubuntu), or dnf install gcc-c++  (Fedora)"


def find_compiler() -> str | None:
    """Return the C++ compiler: CXX if it is set, else g++ or clang++; None where there is none."""
    named = shlex.split(os.environ.get("CXX", ""))[:1]
    for name in named or ["g++", "clang++"]:
        if found := shutil.which(name):
            return found
    return None


def cache_folder() -> Path:
    """Return the folder of compiled kernels: SHIPWAY_CACHE, or shipway/ in the user's cache."""
    if named := os.environ.get("SHIPWAY_CACHE"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "shipway"


def build_library(
    name: str,
    sources: Sequence[Path],
    *,
    flags: Sequence[str] = (),
    includes: Sequence[Path] = (),
    versions: Sequence[str] = (),
) -> Path:
    """Compile C++ files to one shared library, unless the cache has it already.

    The cache key is made of the sources, the files beside them, Shipway's headers and adapters, the
    flags, the compiler and `versions`.

    Args:
        name: Stem of the library, for people who look into the cache.
        sources: C++ files.
        flags: Further flags, libraries too.
        includes: Further folders of headers.
        versions: What else the result depends on, such as the version of a runtime.

    Raises:
        CompilerMissing: There is no C++ compiler.
        EngineError: A source is absent, or the compiler refuses it; the message quotes it.
        OutputError: The cache cannot be written.
    """
    compiler = find_compiler()
    if compiler is None:
        raise CompilerMissing("There is no C++ compiler.", hint=_INSTALL)
    for source in sources:
        if not source.is_file():
            raise EngineError(
                f"There is no kernel source {source}.", hint="Check the path in the definition."
            )
    options = [*_FLAGS, *flags, *(f"-I{folder}" for folder in (INCLUDE, *includes))]
    key = _key(compiler, sources, options, versions)
    target = cache_folder() / "kernels" / key / f"lib{name}.so"
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (target.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.is_file():
                _compile(compiler, sources, options, target)
    except OSError as error:
        raise OutputError(
            f"Cannot write compiled kernels to {target.parent}: {error.strerror}.",
            hint="Set SHIPWAY_CACHE to a folder with room.",
        ) from error
    return target


def _key(
    compiler: str, sources: Sequence[Path], options: Sequence[str], versions: Sequence[str]
) -> str:
    digest = hashlib.sha256()
    near = {item for source in sources for item in source.parent.glob("*.h*")}
    ours = {item for folder in (INCLUDE, ADAPTERS) for item in folder.iterdir() if item.is_file()}
    for path in (*sources, *sorted(near | ours)):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    for text in (*options, compiler_version(compiler), *versions):
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:24]


@functools.cache
def compiler_version(compiler: str) -> str:
    """Return the first line a compiler says of itself."""
    command = [compiler, "--version"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- the user's own compiler
    return listed.stdout.partition("\n")[0]


def _compile(compiler: str, sources: Sequence[Path], options: Sequence[str], target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".tmp-") as folder:
        made = Path(folder) / target.name
        # Libraries must follow the sources that need them.
        libraries = [item for item in options if item.startswith(("-l", "-L", "-Wl", "/"))]
        rest = [item for item in options if item not in libraries]
        command = [compiler, *rest, *map(str, sources), *libraries, "-ldl", "-o", str(made)]
        theirs = [source.name for source in sources if source.parent != ADAPTERS]
        named = ", ".join(theirs or [source.name for source in sources])
        run_compiler(command, "The C++ compiler", named, folder)
        made.replace(target)
