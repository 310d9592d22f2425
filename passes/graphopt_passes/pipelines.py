"""The default pipeline of each optimization level, with the reason for every entry."""

from __future__ import annotations

from collections.abc import Mapping

Entry = tuple[str, str]
"""(pass, why it stands here)"""

_LEGALIZE: tuple[Entry, ...] = (
    ("decompose-conv-transpose", "phases become convolutions, which have kernels"),
    ("decompose-resize", "gathers fuse with what surrounds them"),
    ("clip-windows", "before pools are counted and padded: a window of padding is no work"),
    ("decompose-pooling", "leaves pools of one divisor"),
    ("decompose-batch-norm", "what no weights could take becomes a scale and a shift"),
    ("explicit-padding", "after all that makes windows: kernels know no borders"),
)

_FOLD: tuple[Entry, ...] = (
    ("fold-constants", "masks and positions computed in the model become data"),
    ("fold-batchnorm", "before batch norms are written out"),
)

_FINISH: tuple[Entry, ...] = (
    ("assign-layouts", "before fusion, which joins nodes of one layout"),
    ("fuse", "last of what changes the graph: every region is a kernel"),
    ("plan-memory", "lifetimes are known only in the final order"),
)

LEVELS: Mapping[str, tuple[Entry, ...]] = {
    "O0": (*_LEGALIZE, *_FINISH),
    "O1": (*_FOLD, *_LEGALIZE, *_FINISH),
    "O2": (*_FOLD, *_LEGALIZE, *_FINISH),
}


def text(level: str) -> str:
    """The pipeline of a level as `graphopt opt -p` takes it."""
    return ",".join(name for name, _ in LEVELS[level])
