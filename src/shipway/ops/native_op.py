"""Give torch the native kernel of an operator, through torch's C shim."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from shipway.errors import EngineError
from shipway.ops.kernel_library import library_of

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp

__all__ = ["register_native"]

_MESSAGE_BYTES = 1024


def register_native(op: CustomOp) -> bool:
    """Register the kernel as the CPU implementation of an operator whose schema torch knows.

    Returns:
        Whether there is one; without it the reference computes.

    Raises:
        EngineError: The kernel does not build, load or fit, or torch refuses it.
    """
    library = library_of(op)
    if library is None:
        return False
    names = (ctypes.c_char_p * 1)(op.short_name.encode())
    message = ctypes.create_string_buffer(_MESSAGE_BYTES)
    if library.handle.shipway_register_torch(names, 1, message, _MESSAGE_BYTES) != 0:
        reason = message.value.decode("utf-8", "replace")
        raise EngineError(
            f"PyTorch does not take the kernel of {op.name} in {library.path.name}: {reason}",
            hint="Shipway needs torch 2.10 or newer: pip install --upgrade torch.",
        )
    return True
