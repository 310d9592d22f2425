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
    `cudnn.tf32`. `offers` are those that could, and "kernel", where it is left to the tuner which
    of them does; the first is what a table would choose."""

    kind: str
    library: str = ""
    offers: tuple[str, ...] = ()

    def __repr__(self) -> str:  # digests are made of it: those of regions without stay as they are
        library = f", library={self.library!r}" * bool(self.library)
        offers = f", offers={self.offers!r}" * bool(self.offers)
        return f"FusedAttrs(kind={self.kind!r}{library}{offers})"


def _in_body(*_: Any) -> Any:
    raise InternalError("a fused node's types and values are those of its body")


FUSED = OpDef("fused", FusedAttrs, _in_body, _in_body, kind="region")
OPS = (FUSED,)
