"""A convolution's extents, as libraries take them."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.ir.types import TensorType
from graphopt.ops import ConvAttrs
from graphopt_backends.cuda.vendor.match import Match


@dataclass(frozen=True)
class Geometry:
    """Images [n, h, w, c], filters [o, r, s, c / groups], results [n, p, q, o]; `pad` zeros on each
    side."""

    n: int
    h: int
    w: int
    c: int
    o: int
    r: int
    s: int
    p: int
    q: int
    pad_h: int
    pad_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    groups: int

    @property
    def pixels(self) -> int:
        return self.n * self.p * self.q

    @property
    def pointwise(self) -> bool:
        """Whether each pixel is made of the one at its place: it is a product."""
        steps = (self.r, self.s, self.stride_h, self.stride_w)
        return steps == (1, 1, 1, 1) and not (self.pad_h or self.pad_w)


def geometry(found: Match) -> Geometry:
    """Of a matched convolution. One over one axis is one over an axis of extent 1 and that one."""
    attrs = found.root.attrs
    assert isinstance(attrs, ConvAttrs)
    n, c, h, w = _image(found.roles["x"].type)
    o, _, r, s = _image(found.roles["w"].type)
    _, _, p, q = _image(found.root.result.type)
    pad_h, pad_w = _pair(tuple(before for before, _ in found.padding), 0)
    stride_h, stride_w = _pair(attrs.stride, 1)
    dilation_h, dilation_w = _pair(attrs.dilation, 1)
    return Geometry(
        n, h, w, c, o, r, s, p, q, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w,
        attrs.groups,
    )  # fmt: skip


def _image(type: TensorType) -> tuple[int, int, int, int]:
    first, second, *spatial = type.dims
    height, width = _pair(tuple(spatial), 1)
    return first, second, height, width


def _pair(values: tuple[int, ...], missing: int) -> tuple[int, int]:
    return (values[0], values[1]) if len(values) == 2 else (missing, values[0])
