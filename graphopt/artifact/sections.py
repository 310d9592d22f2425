"""What a library is made of, read from its ELF headers: needs no tool and runs nothing."""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_EXECUTABLE = 4


def code_bytes(library: Path) -> int:
    """Bytes of instructions; 0 where they cannot be told: it is no 64-bit little-endian ELF file.

    Source: System V ABI, chapter 4, "ELF Header" and "Sections".
    """
    data = library.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        return 0
    *_, offset, _flags, _size, _, _, entry, count, _ = _HEADER.unpack_from(data)
    sections = (_SECTION.unpack_from(data, offset + i * entry) for i in range(count))
    return sum(size for _, _, flags, _, _, size, *_ in sections if flags & _EXECUTABLE)
