"""`python -m bench.kernels`: products and convolutions beside the peak of one core.

Each shape is a model of one operation, and its time that of the kernels that multiply: layouts
are changed between regions of a model, not at each. Operations are those of a direct sum as the
model says it, whatever the compiler makes of it. The first columns are of direct sums; what
Winograd's and Strassen's algorithms gain, which take fewer, has a column of its own. `--models`
adds all products and convolutions of models of the zoo; attention and recurrences are left out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from graphopt_backends.cpu.limits import measure_now
from rich.console import Console

from bench.zoo import FOUNDATION, MODELS
from graphopt.artifact.golden import sample_inputs
from graphopt.artifact.loader import load
from graphopt.artifact.timing import time_calls
from graphopt.compilation import Options
from graphopt.driver import build
from graphopt.ir.graph import NOWHERE
from graphopt.ir.text import parse
from graphopt.report.calls import timed_calls
from graphopt.target import Limits, resolve

ZOO = Path(__file__).resolve().parent / "zoo.py"
TRANSFORMED = ("choose-winograd", "choose-strassen")
SUMS = ("contraction", "depthwise", "strips")
"""Kinds of regions that multiply and add above all; the kind is part of a kernel's name."""
RUNS = 30
console = Console(stderr=True)


@dataclass(frozen=True)
class Rate:
    """`seconds` of a run that takes `total` are spent on `flops` operations, on `moved` bytes of
    operands and results, each counted once."""

    seconds: float
    total: float
    flops: int
    moved: int

    @property
    def gflops(self) -> float:
        return self.flops / self.seconds / 1e9

    def of_peak(self, limits: Limits) -> str:
        return f"{self.gflops / limits.gflops:.0%}"


# Shapes ------------------------------------------------------------------------------------------


def linear(rows: int, features: int, outputs: int) -> str:
    return f"""%x = input : f32[{rows},{features}]
%w = constant {{key="w"}} : f32[{outputs},{features}]
%y = linear %x, %w
return %y"""


def matmul(m: int, k: int, n: int, *, batch: int = 1, turned: str = "") -> str:
    """Of two activations; `turned` names those, of a and b, that lie transposed."""
    a, b = ((k, m) if "a" in turned else (m, k)), ((n, k) if "b" in turned else (k, n))
    lines = [
        f"%{name} = input : f32[{batch},{rows},{columns}]"
        for name, (rows, columns) in (("a", a), ("b", b))
    ]
    for name in turned:
        lines.append(f"%{name}t = transpose %{name} {{perm=[0,2,1]}}")
    first, second = (f"%{name}{'t' if name in turned else ''}" for name in "ab")
    return "\n".join([*lines, f"%y = matmul {first}, {second}", "return %y"])


def conv(
    channels: int, filters: int, size: int, taps: int, *, stride: int = 1, groups: int = 1,
    dilation: int = 1,
) -> str:  # fmt: skip
    """A square image of `size` at which `taps` by `taps` weights go, padded to keep it."""
    reach = dilation * (taps - 1)
    pad, two = f"[{reach // 2},{reach - reach // 2}]", "[{0},{0}]".format
    attrs = f"stride={two(stride)}, padding={two(pad)}, dilation={two(dilation)}, groups={groups}"
    return f"""%x = input : f32[1,{channels},{size},{size}]
%w = constant {{key="w"}} : f32[{filters},{channels // groups},{taps},{taps}]
%y = conv %x, %w {{{attrs}}}
return %y"""


def depthwise(channels: int, size: int, taps: int, stride: int = 1) -> str:
    return conv(channels, channels, size, taps, stride=stride, groups=channels)


LARGE: Mapping[str, Callable[[], str]] = {
    **{f"linear {n}, {n} to {n}": partial(linear, n, n, n) for n in (512, 1024, 2048)},
    "linear 1000, 1001 to 999": partial(linear, 1000, 1001, 999),
    "linear 4096, 768 to 3072": partial(linear, 4096, 768, 3072),
    "matmul 1024": partial(matmul, 1024, 1024, 1024),
    "matmul 1024, a turned": partial(matmul, 1024, 1024, 1024, turned="a"),
    "matmul 1024, b turned": partial(matmul, 1024, 1024, 1024, turned="b"),
    "matmul 16 of 512": partial(matmul, 512, 512, 512, batch=16),
    "conv 3x3, 256 to 256 at 56": partial(conv, 256, 256, 56, 3),
    "conv 1x1, 512 to 512 at 64": partial(conv, 512, 512, 64, 1),
}
"""What fits in no cache, or hardly: blocking and packing have to hold."""

USUAL: Mapping[str, Callable[[], str]] = {
    "linear 128, 768 to 768": partial(linear, 128, 768, 768),
    "linear 128, 768 to 3072": partial(linear, 128, 768, 3072),
    "linear 128, 3072 to 768": partial(linear, 128, 3072, 768),
    "linear 197, 768 to 768": partial(linear, 197, 768, 768),
    "linear 7, 768 to 768": partial(linear, 7, 768, 768),
    "linear 1, 4096 to 4096": partial(linear, 1, 4096, 4096),
    "matmul 12 of 128, 64, 128": partial(matmul, 128, 64, 128, batch=12, turned="b"),
    "conv 7x7 / 2, 3 to 64 at 224": partial(conv, 3, 64, 224, 7, stride=2),
    "conv 3x3 / 2, 3 to 32 at 224": partial(conv, 3, 32, 224, 3, stride=2),
    "conv 1x1, 64 to 256 at 56": partial(conv, 64, 256, 56, 1),
    "conv 1x1, 1024 to 256 at 14": partial(conv, 1024, 256, 14, 1),
    "conv 1x1 / 2, 512 to 1024 at 28": partial(conv, 512, 1024, 28, 1, stride=2),
    "conv 3x3, 64 to 64 at 56": partial(conv, 64, 64, 56, 3),
    "conv 3x3, 128 to 128 at 28": partial(conv, 128, 128, 28, 3),
    "conv 3x3, 512 to 512 at 7": partial(conv, 512, 512, 7, 3),
    "conv 3x3 / 2, 256 to 256 at 28": partial(conv, 256, 256, 28, 3, stride=2),
    "conv 3x3, 32 groups, 128 to 128 at 56": partial(conv, 128, 128, 56, 3, groups=32),
    "conv 3x3, dilation 2, 256 to 256 at 28": partial(conv, 256, 256, 28, 3, dilation=2),
    "depthwise 3x3, 144 at 56": partial(depthwise, 144, 56, 3),
    "depthwise 3x3 / 2, 96 at 112": partial(depthwise, 96, 112, 3, 2),
    "depthwise 5x5, 240 at 28": partial(depthwise, 240, 28, 5),
    "depthwise 7x7, 96 at 56": partial(depthwise, 96, 56, 7),
}
"""Shapes of convolutional and transformer models at batch 1."""


# Measuring ---------------------------------------------------------------------------------------


def rate(source: Any, folder: Path, without: Sequence[str]) -> Rate:
    """Of the kernels that multiply, in a model that is compiled without some passes."""
    made = build(source, out=folder, options=Options(without=tuple(without)))
    with load(folder) as model:
        inputs = {n: _filled(x) for n, x in sample_inputs(folder, model.manifest).items()}
        calls = timed_calls(model.manifest, time_calls(model, inputs, RUNS), None)
    sums = [c for c in calls if any(f"go_{kind}_" in c.kernel for kind in SUMS)]
    places = {place for c in sums for place in c.computes}
    flops = sum(
        n.op.flops(*(o.type for o in n.operands), n.attrs)
        for n in made.source.nodes
        if n.op.kind == "contraction"
        and (n.loc == NOWHERE or (n.loc.module, n.loc.source) in places)
    )
    return Rate(
        sum(c.nanoseconds for c in sums) / 1e9,
        sum(c.nanoseconds for c in calls) / 1e9,
        flops,
        sum(c.bytes_moved for c in sums),
    )


def _filled(array: np.ndarray) -> np.ndarray:
    """Numbers where an artifact of a graph has zeros, which a processor may find easier."""
    if array.any() or array.dtype != np.float32:
        return array
    return _drawn(array.shape)


def _drawn(shape: tuple[int, ...]) -> np.ndarray:
    numbers: np.ndarray = np.random.default_rng(0).standard_normal(shape, np.float32)
    return numbers


def shapes(cases: Mapping[str, Callable[[], str]], limits: Limits) -> Iterator[str]:
    yield "| shape | time | GFLOP/s | of the peak | GB/s | Winograd or Strassen |"
    yield "|---|---|---|---|---|---|"
    for name, text in cases.items():
        direct, best = _both(name, parse(text(), fill=lambda key, type: _drawn(type.dims)))
        yield (
            f"| {name} | {direct.seconds * 1e6:.0f} us | {direct.gflops:.1f} "
            f"| {direct.of_peak(limits)} | {direct.moved / direct.seconds / 1e9:.1f} "
            f"| {direct.seconds / best.seconds:.2f}x |"
        )


def models(names: Sequence[str], limits: Limits) -> Iterator[str]:
    yield "| model | in products and convolutions | of a run | of the peak | Winograd or Strassen |"
    yield "|---|---|---|---|---|"
    for name in names:
        direct, best = _both(name, f"{ZOO}:{name}")
        yield (
            f"| {name} | {direct.seconds * 1e3:.2f} ms | {direct.seconds / direct.total:.0%} "
            f"| {direct.of_peak(limits)} | {direct.seconds / best.seconds:.2f}x |"
        )


def _both(name: str, source: Any) -> tuple[Rate, Rate]:
    """By direct sums, and as it is compiled by default."""
    with tempfile.TemporaryDirectory() as folder, console.status(name):
        return rate(source, Path(folder, "direct"), TRANSFORMED), rate(
            source, Path(folder, "as"), ()
        )


@click.command()
@click.argument("zoo", metavar="[MODELS]", nargs=-1)
@click.option("--models", "all_models", is_flag=True, help="All models of the zoo.")
def main(zoo: tuple[str, ...], all_models: bool) -> None:
    """Time products and convolutions of one core, alone and in MODELS."""
    if unknown := [name for name in zoo if name not in MODELS]:
        raise click.UsageError(f"there is no model {unknown[0]!r}; choose from {', '.join(MODELS)}")
    limits = measure_now(resolve("cpu")[1])
    print(f"One thread: {limits.gflops:.0f} GFLOP/s, {limits.gbytes_per_s:.1f} GB/s from memory.\n")
    for cases in (LARGE, USUAL):
        print(*shapes(cases, limits), sep="\n", end="\n\n")
    if names := FOUNDATION if all_models else zoo:
        print(*models(names, limits), sep="\n")


if __name__ == "__main__":
    main()
