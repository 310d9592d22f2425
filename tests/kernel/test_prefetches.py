"""What is asked for early, as text. That meaning stays is with the other primitives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from test_schedule import PARTS, ROWS, WEIGHED, body, kernel

from graphopt.errors import IRError
from graphopt.kernel import schedule as s
from graphopt.kernel.ir import Kernel


def test_ahead_in_a_loop() -> None:
    after = s.prefetch(s.vectorize(kernel(ROWS, m=64, n=8), "j"), "x", "i", 4)
    assert body(after) == (
        "for i in 0..64 { prefetch x[i + 4, 0] "
        "y[i, ramp(0, 1, 8)] = x[i, ramp(0, 1, 8)] + splat(b[i], 8) }"
    )


def test_the_next_part() -> None:
    after = s.prefetch_next(kernel(PARTS, n=2), "w", "e", "k", level=2)
    assert body(after) == (
        "alloc acc: f32[] register acc[] = 0.0 for e in 0..2 { "
        "for t in 0..2 { for k in 0..4 { prefetch w[e * 64 + 64 + t * 22 + k * 6] l2 "
        "acc[] += w[e * 64 + k * 16] * x[k] } } "
        "for k in 0..4 { prefetch w[e * 64 + 64 + 44 + k * 6] l2 "
        "acc[] += w[e * 64 + k * 16 + 8] * x[k] } } y[0] = acc[]"
    )


def test_the_next_part_in_several_streams() -> None:
    """Steps take turns; a stream begins on a cache line of its own."""
    after = s.prefetch_next(kernel(PARTS, n=2), "w", "e", "k", level=2, streams=2)
    assert "prefetch w[e * 64 + 64 + t * 11 + k % 2 * 32 + k // 2 * 6] l2" in body(after)
    unrolled = s.simplify(s.unroll(s.split(after, "k", 2, names=("k", "ks")), "ks"))
    hints = [h.split("]")[0] for h in body(unrolled).split("prefetch w[")[1:]]
    assert hints == [
        "e * 64 + t * 11 + k * 6 + 64", "e * 64 + t * 11 + k * 6 + 96",
        "e * 64 + k * 6 + 86", "e * 64 + k * 6 + 118",
    ]  # fmt: skip


ROWS_OF_TILES = """kernel k(x: f32[16], y: f32[{n}] output) {{
  for m in 0..{n} {{
    alloc acc: f32[] register
    acc[] = 0.0
    for k in 0..4 {{ acc[] += x[m * 8 + k] * x[m * {apart} + k + 4] }}
    y[m] = acc[]
  }}
}}"""


def test_the_next_rows() -> None:
    """A run that goes through every row of a part asks for all of them."""
    after = s.prefetch_next(kernel(ROWS_OF_TILES, n=2, apart=8), "x", "m", "k")
    assert body(after) == (
        "for m in 0..2 { alloc acc: f32[] register acc[] = 0.0 "
        "for k in 0..4 { prefetch x[m * 8 + 8 + k * 2] "
        "acc[] += x[m * 8 + k] * x[m * 8 + k + 4] } y[m] = acc[] }"
    )


@pytest.mark.parametrize(
    ("text", "buffer", "within", "var", "message"),
    [
        (PARTS, "y", "e", "k", "no loop 'k' in 'e' reads 'y'"),
        (PARTS, "x", "e", "k", "what iterations of 'e' read is not one stream"),
        (ROWS, "x", "i", "j", "what iterations of 'i' read is not one stream"),
    ],
)
def test_parts_that_are_no_stream(
    text: str, buffer: str, within: str, var: str, message: str
) -> None:
    with pytest.raises(IRError) as caught:
        s.prefetch_next(kernel(text, m=2, n=2), buffer, within, var)
    assert str(caught.value) == f"prefetch_next: {message}"


def _tile(k: Kernel) -> Kernel:
    return s.expand_accumulator(k, "acc", ("i", "j"))


HINTS = "for i in 0..2 { for j in 0..3 { prefetch r[i, j] } } "


@pytest.mark.parametrize(
    ("step", "asks"),
    [
        (lambda k: s.prefetch_epilogue(k, "acc", beyond=23), True),
        (lambda k: s.prefetch_epilogue(k, "acc", beyond=24), False),  # r is 24 bytes
        (lambda k: s.prefetch_epilogue(k, "sum", beyond=0), False),
    ],
)
def test_what_an_epilogue_reads(step: Callable[[Kernel], Kernel], asks: bool) -> None:
    before = _tile(kernel(WEIGHED, m=2, n=3, k=4))
    text = body(before)
    sums = text.index("for k in 0..4")
    wanted = text[:sums] + HINTS + text[sums:] if asks else text
    assert body(step(before)) == wanted


def test_every_tile_asks_for_its_own() -> None:
    """Those inside a condition, and those beside another tile."""
    halves = kernel(
        """kernel k(r: f32[2, 3], a: f32[2], y: f32[2, 3] output) {{
  for b in 0..2 {{
    if b < {n} {{
      for j in 0..3 {{
        alloc acc: f32[] register
        acc[] = 0.0
        for k in 0..2 {{ acc[] += a[k] }}
        y[b, j] = acc[] * r[b, j]
      }}
    }} else {{
      for j in 0..3 {{ y[b, j] = 0.0 }}
    }}
  }}
}}""",
        n=1,
    )
    after = body(s.prefetch_epilogue(s.expand_accumulator(halves, "acc", ("j",)), "acc", beyond=0))
    assert "for j in 0..3 { prefetch r[b, j] } for k in 0..2 { for j in 0..3 { acc[j] +=" in after
