"""The fused region: a node whose meaning is its body."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphopt.errors import InternalError
from graphopt.ops.base import Attrs, OpDef


@dataclass(frozen=True)
class FusedAttrs(Attrs):
    """`kind`, one of `graphopt.ir.regions.REGION_KINDS`, selects the lowering; `library` names the
    vendor's library that computes the region instead, with its precision after a dot: `cublaslt`,
    `cudnn.tf32`."""

    kind: str
    library: str = ""

    def __repr__(self) -> str:  # digests are made of it: those of regions without stay as they are
        return f"FusedAttrs(kind={self.kind!r}{f', library={self.library!r}' * bool(self.library)})"


def _in_body(*_: Any) -> Any:
    raise InternalError("a fused node's types and values are those of its body")


FUSED = OpDef("fused", FusedAttrs, _in_body, _in_body, kind="region")
OPS = (FUSED,)
