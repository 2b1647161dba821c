"""Functions of the C library that Python's own modules lack, by `_ctypes` alone (the package `ctypes` costs 5 ms)."""

from __future__ import annotations

import _ctypes
from _ctypes import get_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["function", "get_errno"]


class _Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "i"


class _Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Int


def function(name: str) -> Callable[..., int]:
    """The function `name`, taking and giving ints; its errno is `get_errno()`."""
    return _Function(_ctypes.dlsym(_ctypes.dlopen(None, 0), name))  # type: ignore[arg-type]  # None: this program, libc included
