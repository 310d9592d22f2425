"""Where each weight lies in `weights.bin`. The code generator and the writer both go by this."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.program import Weight

ALIGNMENT = 64
"""Bytes: a cache line and the widest vector register."""

MAGIC = b"GOWEIGHT"
HEADER_BYTES = 64
HEADER = struct.Struct("<8sQ32s16x")
"""Magic, size of the file in bytes, `WeightLayout.digest`."""


class WeightLayout:
    """`offsets[i]` is where weight `i` starts, in bytes from the start of the file."""

    def __init__(self, weights: Sequence[Weight]) -> None:
        offsets, end = [], HEADER_BYTES
        for weight in weights:
            offsets.append(end)
            end = -(-(end + weight.size_bytes) // ALIGNMENT) * ALIGNMENT
        self.offsets = tuple(offsets)
        self.size_bytes = end
        names = "\n".join(f"{w.name} {w.size_bytes}" for w in weights)
        self.digest = hashlib.sha256(names.encode()).digest()

    def header(self) -> bytes:
        """The file's first 64 bytes. The digest is of names and sizes: new weights of an unchanged
        model go with the old code."""
        return HEADER.pack(MAGIC, self.size_bytes, self.digest)
