"""A region split into what a library computes and a kernel's region for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ops import FusedAttrs
from graphopt.rewrite import Rewriter, extract
from graphopt_backends.cuda.vendor.attention import added_mask, has_bools
from graphopt_backends.cuda.vendor.convolution import claimed
from graphopt_backends.cuda.vendor.match import CUTLASS, Match, Mismatch, match
from graphopt_backends.cuda.vendor.offers import Offer, body_of


def split(rw: Rewriter, node: Node, offer: Offer) -> None:
    """Replace a fused node by the call's region, and one for the rest, if any."""
    body, found = body_of(node), offer.found
    outside = dict(zip(body.inputs, node.operands, strict=True))
    assert isinstance(node.attrs, FusedAttrs)
    attrs = FusedAttrs(node.attrs.kind, offer.library)
    if found.function == "attention" and has_bools(found.root):
        called, operands = _with_added_mask(rw, found, outside)
    else:
        called, operands = _called(found, outside, claimed if offer.name == CUTLASS else match)
    call = rw.insert("fused", operands, attrs, loc=node.loc, body=called)
    outside[found.result] = call.result
    rest = [n for n in body.nodes if n not in found.nodes]
    if rest:
        made = [v for v in body.outputs if v is not found.result]
        read = list(dict.fromkeys(o for n in rest for o in n.operands if o in outside))
        kind = "movement" if rest[-1].op.kind == "movement" else "pointwise"
        second = rw.insert(
            "fused",
            [outside[v] for v in read],
            FusedAttrs(kind),
            loc=rest[-1].loc,
            body=extract(read, rest, made),
        )
        outside.update(zip(made, second.results, strict=True))
    for result, inside in zip(node.results, body.outputs, strict=True):
        rw.replace(result, outside[inside])


def _with_added_mask(
    rw: Rewriter, found: Match, outside: Mapping[Value, Value]
) -> tuple[Graph, list[Value]]:
    """An attention's body and operands, its mask of bools replaced by what is added to scores: made
    once, for all that read the mask."""
    mask, dtype = found.roles["mask"], found.result.type.dtype
    body, bools = added_mask(mask.type, dtype), outside[mask]
    made = (n.result for n in rw.users(bools) if n.body == body)
    added = next(made, None)
    if added is None:
        attrs = FusedAttrs("pointwise")
        added = rw.insert("fused", [bools], attrs, loc=found.root.loc, body=body).result
    inputs = list(dict.fromkeys(found.roles.values()))
    given = Value(added.type, name=mask.name)
    called = extract(
        [given if v is mask else v for v in inputs], found.nodes, [found.result], {mask: given}
    )
    return called, [added if v is mask else outside[v] for v in inputs]


def _called(
    found: Match, outside: Mapping[Value, Value], matched: Callable[[Graph], Match | Mismatch]
) -> tuple[Graph, list[Value]]:
    """The call's body and operands. A pad of a convolution's input, if nothing else is done on the
    way and it still is `matched`, is taken in."""
    inputs = list(dict.fromkeys(found.roles.values()))
    operands = [outside[v] for v in inputs]
    plain = extract(inputs, found.nodes, [found.result])
    producer = operands[0].producer
    padded = producer.body if producer is not None else None
    if found.function != "conv" or padded is None or [n.op.name for n in padded.nodes] != ["pad"]:
        return plain, operands
    assert producer is not None
    joined = extract(
        [padded.inputs[0], *inputs[1:]],
        [*padded.nodes, *found.nodes],
        [found.result],
        {inputs[0]: padded.outputs[0]},
    )
    if isinstance(matched(joined), Mismatch):
        return plain, operands
    return joined, [producer.operands[0], *operands[1:]]
