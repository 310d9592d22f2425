"""Movement and indexing."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from graphopt.ops import (
    ConcatAttrs,
    ExpandAttrs,
    FlipAttrs,
    GatherAttrs,
    PadAttrs,
    ReshapeAttrs,
    ScatterAlongAttrs,
    ScatterNdAttrs,
    SliceAttrs,
    TakeAlongAttrs,
    TransposeAttrs,
)
from op_cases.base import NO, Case, bools, ints, normal

# Movement and indexing -------------------------------------------------------------------------


def _movements() -> Iterator[Case]:
    x = normal(2, 3, 4)
    yield Case("reshape", "", (x,), ReshapeAttrs((4, 6)), lambda t, x: t.reshape(x, (4, 6)))
    yield Case(
        "reshape", "scalar", (normal(1, 1),), ReshapeAttrs(()), lambda t, x: t.reshape(x, ())
    )
    yield Case("transpose", "", (x,), TransposeAttrs((2, 0, 1)), lambda t, x: x.permute(2, 0, 1))
    yield Case("transpose", "scalar", (np.asarray(1.0),), TransposeAttrs(()), lambda t, x: x)
    yield Case(
        "expand", "", (normal(3, 1),), ExpandAttrs((2, 3, 4)), lambda t, x: x.expand(2, 3, 4)
    )
    yield Case("expand", "scalar", (np.asarray(2.0),), ExpandAttrs((2,)), lambda t, x: x.expand(2))
    yield Case(
        "slice",
        "",
        (x,),
        SliceAttrs((1, 0, 1), (2, 3, 4), (1, 2, 2)),
        lambda t, x: x[1:2, 0:3:2, 1:4:2],
    )
    yield Case(
        "slice", "empty", (x,), SliceAttrs((0, 3, 0), (2, 3, 4), (1, 1, 1)), lambda t, x: x[:, 3:3]
    )
    yield Case("concat", "1", (x, normal(2, 1, 4), x), ConcatAttrs(1), lambda t, *xs: t.cat(xs, 1))
    yield Case("concat", "one", (x,), ConcatAttrs(0), lambda t, x: x)
    yield Case("concat", "empty", (x, normal(2, 3, 0)), ConcatAttrs(2), lambda t, *xs: t.cat(xs, 2))
    yield Case("concat", "bool", (bools(2), bools(3)), ConcatAttrs(0), lambda t, *xs: t.cat(xs))
    yield Case(
        "pad",
        "empty",
        (normal(2, 0),),
        PadAttrs((0, 1), (0, 2)),
        lambda t, x: t.nn.functional.pad(x, (1, 2)),
    )
    image = normal(1, 2, 4, 5)
    for mode in ("constant", "reflect", "replicate"):
        yield Case(
            "pad",
            mode,
            (image,),
            PadAttrs((0, 0, 1, 3), (0, 0, 2, 0), 1.5 if mode == "constant" else 0.0, mode),
            lambda t, x, m=mode: t.nn.functional.pad(
                x, (3, 0, 1, 2), m, *((1.5,) if m == "constant" else ())
            ),
        )
    yield Case(
        "pad",
        "lowest",
        (image,),
        PadAttrs((1, 0, 0, 0), (0, 0, 0, 1), -math.inf),
        lambda t, x: t.nn.functional.pad(x, (0, 1, 0, 0, 0, 0, 1, 0), value=-math.inf),
    )
    yield Case(
        "pad",
        "bool",
        (bools(3),),
        PadAttrs((1,), (2,), 1.0),
        lambda t, x: t.nn.functional.pad(x, (1, 2), value=True),
    )
    yield Case("flip", "", (x,), FlipAttrs((0, 2)), lambda t, x: t.flip(x, (0, 2)))
    yield Case("flip", "none", (x,), FlipAttrs(()), lambda t, x: x)
    yield Case("relayout", "", (x,), NO, lambda t, x: x)


def _indexings() -> Iterator[Case]:
    x = normal(3, 4, 5)
    index = np.array([[0, -1], [2, -3]])
    yield Case("gather", "0", (x, index), GatherAttrs(0), lambda t, x, i: x[i])
    yield Case("gather", "1", (x, index), GatherAttrs(1), lambda t, x, i: x[:, i])
    yield Case("gather", "scalar", (x, np.asarray(-1)), GatherAttrs(2), lambda t, x, i: x[:, :, i])
    yield Case(
        "gather",
        "i32 bool",
        (bools(4), np.array([3, 0], np.int32)),
        GatherAttrs(0),
        lambda t, x, i: x[i],
    )
    for axis in (0, 1, 2):
        at = ints(0, x.shape[axis], 2, 3, 4)
        yield Case(
            "take_along",
            f"{axis}",
            (x, at),
            TakeAlongAttrs(axis),
            lambda t, x, i, a=axis: t.gather(x, a, i),
        )
        for accumulate in (False, True):
            # distinct targets along the axis unless they accumulate: torch leaves the winner open
            where = at if accumulate else np.argsort(normal(*x.shape), axis)[:2, :3, :4]
            op = "scatter_add" if accumulate else "scatter"
            yield Case(
                "scatter_along",
                f"{axis}-{accumulate}",
                (x, where, normal(2, 3, 4)),
                ScatterAlongAttrs(axis, accumulate),
                lambda t, x, i, u, a=axis, o=op: getattr(t, o)(x, a, i, u),
            )
    yield Case(
        "take_along",
        "negative",
        (x, np.full((3, 1, 5), -1)),
        TakeAlongAttrs(1),
        lambda t, x, i: x[:, -1:],
    )
    yield Case(
        "take_along",
        "longer",
        (normal(2), ints(0, 2, 7)),
        TakeAlongAttrs(0),
        lambda t, x, i: t.gather(x, 0, i),
    )
    at = np.array([[0, 1], [2, -1], [1, 0]])
    yield Case("gather_nd", "2 of 3", (x, at), NO, lambda t, x, i: x[i[:, 0], i[:, 1]])
    yield Case(
        "gather_nd",
        "all",
        (x, np.array([[[0, 1, 2]]])),
        NO,
        lambda t, x, i: x[0, 1, 2].reshape(1, 1),
    )
    yield Case(
        "gather_nd", "none", (x, np.zeros((2, 0), np.int64)), NO, lambda t, x, i: t.stack((x, x))
    )
    for accumulate in (False, True):
        yield Case(
            "scatter_nd",
            f"{accumulate}",
            (x, at, normal(3, 5)),
            ScatterNdAttrs(accumulate),
            lambda t, x, i, u, a=accumulate: x.index_put((i[:, 0], i[:, 1]), u, a),
        )
    for combine, how in (("mul", "prod"), ("maximum", "amax"), ("minimum", "amin")):
        yield Case(
            "scatter_along",
            combine,
            (x, ints(0, 4, 2, 4, 4), normal(2, 4, 4)),
            ScatterAlongAttrs(1, True, combine),
            lambda t, x, i, u, h=how: x.scatter_reduce(1, i, u, h),
        )
        yield Case(
            "scatter_nd",
            combine,
            (normal(3, 4), np.array([[2], [0], [2]]), normal(3, 4)),
            ScatterNdAttrs(True, combine),
            lambda t, x, i, u, h=how: x.scatter_reduce(0, i.expand(3, 4), u, h),
        )
    twice = np.array([[1], [1]])
    yield Case(
        "scatter_nd",
        "twice",
        (normal(3), twice, normal(2)),
        ScatterNdAttrs(True),
        lambda t, x, i, u: x.index_put((i[:, 0],), u, True),
    )


CASES: tuple[Case, ...] = tuple(case for family in (_movements, _indexings) for case in family())
