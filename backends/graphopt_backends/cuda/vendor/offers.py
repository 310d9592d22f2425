"""Which libraries can compute a region, and which of them a table expects to pay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphopt.ir.graph import Graph, Node, Value
from graphopt.ir.types import DType
from graphopt.lower.link import flops
from graphopt.ops import ConvAttrs, FusedAttrs
from graphopt.rewrite import extract
from graphopt_backends.cuda.targets import GpuTarget
from graphopt_backends.cuda.vendor import attention
from graphopt_backends.cuda.vendor.choice import library_wins
from graphopt_backends.cuda.vendor.convolution import claimed, computed
from graphopt_backends.cuda.vendor.match import ATTENTION, CUTLASS, LIBRARY, Match, Mismatch, match
from graphopt_backends.cuda.vendor.schedules import Schedule, schedules

IsConstant = Callable[[Value], bool]
"""Whether an operand of a region is one of the model's weights."""

TF32 = ".tf32"


@dataclass(frozen=True)
class Offer:
    """What a library computes of a region. `library` is its name; behind it `.tf32` where it may
    round the factors, or CUTLASS's schedule, where it is not the table's."""

    library: str
    found: Match

    @property
    def name(self) -> str:
        return self.library.partition(".")[0]

    @property
    def is_usual(self) -> bool:
        """Whether it is what a table would have."""
        return self.name != CUTLASS or self.library == CUTLASS


@dataclass(frozen=True)
class Asked:
    """Which libraries are asked, CUTLASS before others where it is among them; `tf32` lets them
    round the factors of f32 products. `schedules`: what else CUTLASS could do is offered, too."""

    use: tuple[str, ...]
    tf32: bool
    target: GpuTarget
    schedules: bool = False


def offers(node: Node, asked: Asked, is_constant: IsConstant) -> list[Offer | Mismatch]:
    """What each library does of a region, or why it does nothing."""
    made = [_called(node, asked, is_constant)]
    if CUTLASS in asked.use and not is_attention(node):
        usual = _templates(node, asked, is_constant)
        made.insert(0, usual)
        if asked.schedules and isinstance(usual, Offer):
            made += [
                Offer(f"{CUTLASS}.{s}", usual.found) for s in _others(usual, node, asked.target)
            ]
    return made


def _others(usual: Offer, node: Node, target: GpuTarget) -> tuple[Schedule, ...]:
    found = usual.found
    what = computed(extract(body_of(node).inputs, found.nodes, [found.result]))
    return () if isinstance(what, Mismatch) else schedules(what, target.sms)


def pays(offer: Offer, node: Node, target: GpuTarget) -> bool:
    """Whether a table expects the call to beat the generated kernel."""
    if is_attention(node):  # nobody has measured it
        return False
    found, moved = offer.found, sum(v.type.size_bytes for v in (*node.operands, *node.results))
    if offer.name == CUTLASS:
        return library_wins(flops(node), moved, 0, _factor(found), False, target)
    if isinstance(found.root.attrs, ConvAttrs) and found.root.attrs.groups > 1:
        return False
    whole = found.result in body_of(node).outputs
    rest_bytes = 0 if whole else 2 * found.result.type.size_bytes
    rounds = offer.library.endswith(TF32)
    return library_wins(flops(node), moved, rest_bytes, found.result.type.dtype, rounds, target)


def _templates(node: Node, asked: Asked, is_constant: IsConstant) -> Offer | Mismatch:
    """What CUTLASS computes: all of a region, but for zeros around its result."""
    if asked.target.isa != "sm_90a":
        return Mismatch(f"CUTLASS: its kernels are for sm_90a, not for {asked.target.isa}")
    found = claimed(body_of(node))
    if isinstance(found, Mismatch):
        return found
    if found.root.op.name == "conv" and not _has_constant_weights(node, found, is_constant):
        return Mismatch("CUTLASS: its weights are no constants")
    return Offer(CUTLASS, found)


def _called(node: Node, asked: Asked, is_constant: IsConstant) -> Offer | Mismatch:
    """What a library that is opened at run time does of a region."""
    attends = is_attention(node)
    found = attention.matched(body_of(node)) if attends else match(body_of(node))
    if isinstance(found, Mismatch):
        return found
    library = LIBRARY[found.function]
    if (wanted := ATTENTION if attends else library) not in asked.use:
        return Mismatch(f"{wanted} is not among the libraries to use")
    if "w" in found.roles and not _has_constant_weights(node, found, is_constant):
        return Mismatch("its weights are no constants")
    rounds = asked.tf32 and found.result.type.dtype is DType.F32
    return Offer(library + TF32 * rounds, found)


def _has_constant_weights(node: Node, found: Match, is_constant: IsConstant) -> bool:
    return is_constant(node.operands[body_of(node).inputs.index(found.roles["w"])])


def is_attention(node: Node) -> bool:
    return isinstance(node.attrs, FusedAttrs) and node.attrs.kind == "attention"


def _factor(found: Match) -> DType:
    return found.root.operands[0].type.dtype


def body_of(node: Node) -> Graph:
    assert node.body is not None
    return node.body
