"""The default pipeline of each optimization level, with the reason for every entry."""

from __future__ import annotations

from collections.abc import Mapping

Entry = tuple[str, str]
"""(pass, why it stands here)"""

# Exact, and small enough to run twice: each finds what the one before has uncovered.
_SIMPLIFY: tuple[Entry, ...] = (
    ("eliminate-dead-code", "what nobody reads is not worth a look, and hides single readers"),
    ("eliminate-empties", "before what divides by a number of elements"),
    ("fold-constants", "masks, positions and turned weights computed in the model become data"),
    ("simplify-arithmetic", "identities with the numbers that folding has left"),
    ("simplify-selects", "conditions that folding has decided"),
    ("merge-clamps", "relu6 and its like become one node"),
    ("cancel-casts", "conditions that went through integers come back as they were"),
    ("cancel-transposes", "before views: two transposes may leave one that moves nothing"),
    ("compose-views", "chains of reshapes hide what a product could read"),
    ("gather-to-slice", "before slices: a row picked by number is one"),
    ("compose-slices", "after views: pieces that are put together again"),
    ("compose-pads", "one border instead of two copies"),
    ("absorb-expands", "after views: what broadcasts by itself needs no copy"),
    ("simplify-attention", "masks are data by now, repeated heads a chain of three views"),
    ("eliminate-common-subexpressions", "last: what the others made alike"),
)

_RECOGNIZE: tuple[Entry, ...] = (
    ("regroup-arithmetic", "powers become products, as the patterns have them"),
    ("recognize-gelu", "one reader of its input instead of four: it fits into an epilogue"),
    ("recognize-silu", "the same, and its factor may go into weights"),
    ("recognize-rms-norm", "one pass over a row instead of three"),
    ("recognize-attention", "its scores stay in the cache; before its products become others"),
    ("recognize-gathered-matmul", "weights stay where they lie, not copied for each row"),
)

_FOLD: tuple[Entry, ...] = (
    ("matmul-to-linear", "products that can take a bias"),
    ("fold-constants", "turns their weights, so that the next may scale them"),
    ("fold-batchnorm", "before batch norms are written out"),
    ("fold-scale", "layer scales, frozen norms and biases, into weights"),
    ("hoist-products", "once nothing but views stands between an enlarged image and its product"),
    ("compose-products", "those that have come next to another one, and those that were"),
    ("batch-frames", "before views sink, for it makes some"),
)

_SINK: tuple[Entry, ...] = (
    ("sink-reshapes", "after biases are inside: only then do the reshapes around a product meet"),
    ("sink-slices", "heads are cut from one view, not copied one by one"),
    ("cancel-transposes", "fewer views for the next to move"),
    ("compose-views", "the reshapes that have met"),
    ("sink-views", "what is left between a kernel and its epilogue"),
    ("linear-to-conv", "once nothing stands between products and the images they are read as"),
    ("sink-views", "the views that it leaves behind"),
    ("fold-scale", "scales that stood behind a view"),
)

_PRECISION: tuple[Entry, ...] = (
    ("cast-precision", "does nothing unless --precision says so; folding is done in f32 before"),
)

_LEGALIZE: tuple[Entry, ...] = (
    ("eliminate-empties", "kernels have loops of at least one iteration"),
    ("decompose-conv-transpose", "phases become convolutions, which have kernels"),
    ("decompose-grouped-matmul", "rows of few experts become blocks, each of one's weights"),
    ("decompose-resize", "gathers fuse with what surrounds them"),
    ("clip-windows", "before pools are counted and padded: a window of padding is no work"),
    ("decompose-pooling", "leaves pools of one divisor"),
    ("decompose-batch-norm", "what no weights could take becomes a scale and a shift"),
    ("explicit-padding", "after all that makes windows: kernels know no borders"),
    ("pad-channels", "on GPUs alone; one border with the pads that stand there by now"),
)

_FUSE: tuple[Entry, ...] = (
    ("assign-layouts", "before fusion, which joins nodes of one layout"),
    ("fuse", "last of what changes the graph: every region is a kernel"),
    ("choose-libraries", "or a vendor's library call, on GPUs, where --vendor allows"),
)

_PLAN: tuple[Entry, ...] = (("plan-memory", "lifetimes are known only in the final order"),)

_FINISH: tuple[Entry, ...] = (*_FUSE, *_PLAN)

_FOLD_EXACTLY: tuple[Entry, ...] = (
    ("fold-batchnorm", "before batch norms are written out"),
    ("fold-bias", "what is added to a product is added in it"),
)

LEVELS: Mapping[str, tuple[Entry, ...]] = {
    "O0": (*_PRECISION, *_LEGALIZE, *_FINISH),
    "O1": (*_SIMPLIFY, *_FOLD_EXACTLY, *_PRECISION, *_LEGALIZE, *_FINISH),
    "O2": (
        *_SIMPLIFY,
        *_RECOGNIZE,
        *_FOLD,
        *_SINK,
        *_PRECISION,
        *_LEGALIZE,
        ("drop-axes", "after what makes pads, before what moves the views that it makes"),
        ("sink-views", "those that legalization has put between a kernel and its epilogue"),
        ("sink-concats", "phases and branches end in their own epilogues"),
        *_SIMPLIFY,  # what recognition, sinking and legalization have uncovered
        ("split-frames", "before the next, which knows images"),
        ("space-to-depth", "before the next, which knows few strides"),
        ("split-taps", "before the next, which knows few taps"),
        ("compose-pads", "the borders that they add, and those that are there"),
        ("choose-winograd", "once batch norms are in the weights that it transforms"),
        ("choose-strassen", "the products that are left"),
        ("decompose-group-norm", "last: the two above it look for norms, not for what they are"),
        *_FUSE,
        ("fuse-strips", "what regions write to memory and read again is known now"),
        ("join-concats", "the last to know: what is written, and by which region"),
        *_PLAN,
    ),
}
"""O0: what lowering needs, nothing else. O1: and what simplifies. O2: and what fuses best."""


_KERNELS: tuple[Entry, ...] = (
    ("vectorize-innermost", "what the lowerings left scalar: the packing of keys, third parties'"),
)

KERNEL_LEVELS: Mapping[str, tuple[Entry, ...]] = {"O0": (), "O1": _KERNELS, "O2": _KERNELS}
"""Kernel passes, after lowering. The schedules of the lowerings leave little to do, so what costs
time or is a gamble stays out: simplify-indices finds nothing in the model zoo and takes 0.1 s,
prefetch-streams gains nothing where a schedule prefetches, unroll-short-loops enlarges code."""


def text(level: str) -> str:
    """The pipeline of a level as `graphopt opt -p` takes it."""
    return ",".join(name for name, _ in LEVELS[level])
