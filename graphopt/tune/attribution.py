"""Whose time a kernel call's is: the region's that it computes. Of what was left open a library may
compute a part, and a kernel the rest: then that region's with which a call has most in common."""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.digest import region_digest
from graphopt.ir.graph import Graph, Loc, Node
from graphopt.program import KernelCall
from graphopt.tune.openings import is_open


def attribute(
    calls: Sequence[KernelCall], times: Sequence[float], planned: Graph
) -> dict[Node, float]:
    """The time of each region of a graph that was left open; `calls` are of one that was not."""
    regions = [n for n in planned.nodes if n.body is not None]
    out = dict.fromkeys(regions, 0.0)
    opened = [n for n in regions if is_open(n)]
    alike: dict[str, list[Node]] = {}
    for n in regions:
        alike.setdefault(region_digest(n), []).append(n)
    for call, time in zip(calls, times, strict=True):
        same = alike.get(call.region)
        owner = same.pop(0) if same else _nearest(call, opened)
        if owner is not None:
            out[owner] += time
    return out


def locs_of(node: Node) -> tuple[Loc, ...]:
    """The nodes of the model that a region computes."""
    assert node.body is not None
    return tuple(dict.fromkeys(n.loc for n in node.body.nodes if n.loc != Loc()))


def _nearest(call: KernelCall, regions: Sequence[Node]) -> Node | None:
    """The region that has most in common with a call: nodes of the model, else a result. None for
    what is none of theirs."""
    made = {r.name for r in call.results}

    def common(n: Node) -> tuple[int, int]:
        names = made.intersection(r.name for r in n.results)
        return len(set(locs_of(n)).intersection(call.locs)), len(names)

    best = max(regions, key=common, default=None)
    return best if best is not None and any(common(best)) else None
