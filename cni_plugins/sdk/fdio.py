"""Whole reads and writes on descriptors: read(2) and write(2) may do less than they are asked to."""

from __future__ import annotations

import os


def read(fd: int) -> bytes:
    """All that is left to read."""
    chunks = []
    while chunk := os.read(fd, 1 << 16):
        chunks.append(chunk)
    return b"".join(chunks)


def write(fd: int, text: bytes | bytearray) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(fd, rest) :]
