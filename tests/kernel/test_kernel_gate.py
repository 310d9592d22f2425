"""The gate of kernel passes: what it catches, what it allows, what it must leave unchecked."""

from __future__ import annotations

import numpy as np
import pytest
from sample_kernel_passes import DropLast, PeelFirst, Scale

from graphopt.check import KernelNumericsGate, seeded_arrays
from graphopt.errors import GateError
from graphopt.kernel.ir import Kernel
from graphopt.kernel.parser import parse_kernel
from graphopt.kernel.passbase import KernelContext, KernelPass

TEXT = "kernel k(x: f32[9], y: f32[9] output) { for i in 0..9 { y[i] = x[i] * 2.0 } y[0] = 1.0 }"
KERNEL = parse_kernel(TEXT)


def _gate(pass_: KernelPass, kernel: Kernel = KERNEL, **options: int) -> KernelNumericsGate:
    gate = KernelNumericsGate(**options)
    gate(pass_, kernel, pass_.run(kernel, KernelContext()))
    return gate


def test_right_passes_pass() -> None:
    assert not _gate(PeelFirst()).notes
    _gate(Scale(by=1e-3, claims="close"))
    _gate(Scale(by=1e-12, claims="reassociates"))


WRONG = [
    (Scale(), "kernel pass scale declares exact, but element "),
    (Scale(by=1e-15), "kernel pass scale declares exact, but element "),
    (
        Scale(by=1e-6, claims="reassociates"),
        "kernel pass scale declares reassociates, but element ",
    ),
    (Scale(by=0.1, claims="close"), "kernel pass scale declares approximates(0.01), but element "),
    (DropLast(), "kernel pass drop-last declares exact, but element 0 of 'y' of k became "),
]


@pytest.mark.parametrize(("pass_", "message"), WRONG, ids=[str(p) for p, _ in WRONG])
def test_wrong_passes_are_caught(pass_: KernelPass, message: str) -> None:
    with pytest.raises(GateError) as caught:
        _gate(pass_)
    assert str(caught.value).startswith(message)
    assert caught.value.hint == "compare the kernels before and after: --print-after-all"


def test_what_is_no_longer_written_shows() -> None:
    kernel = parse_kernel(
        "kernel k(y: i32[2] output, z: f32[1] output) { y[0] = 1:i32 z[0] = 2.0 }"
    )
    with pytest.raises(GateError, match=r"element 0 of 'z' of k became nan; it was 2\.0"):
        _gate(DropLast(), kernel)
    bits = parse_kernel("kernel k(y: i32[2] output) { y[0] = 1:i32 y[1] = 2:i32 }")
    with pytest.raises(GateError, match="element 1 of 'y' of k became -1515870811; it was 2"):
        _gate(DropLast(), bits)


def test_a_kernel_that_no_longer_runs() -> None:
    after = parse_kernel(TEXT.replace("y[0]", "y[9]"))
    with pytest.raises(GateError, match="after kernel pass peel-first, k no longer runs: index 0"):
        KernelNumericsGate()(PeelFirst(), KERNEL, after)


def test_what_is_left_unchecked_is_said() -> None:
    gate = _gate(PeelFirst(), max_steps=1)
    assert gate.notes == ["k was not compared: it takes 3 steps, allowed are 1"]
    wild = parse_kernel("kernel k(i: i64[9], y: f32[1] output) { y[i[0] - 1] = 1.0 y[i[1]] = 0.5 }")
    gate = _gate(DropLast(), wild)
    (note,) = gate.notes
    assert note.startswith("k was not compared: it does not run on seeded arrays: index 0 of 'y'")


def test_seeded_arrays() -> None:
    kernel = parse_kernel("kernel k(x: f32[64], i: i64[64], b: bool[64], y: f32[1] output) { }")
    first, again, other = (seeded_arrays(kernel, n) for n in (0, 0, 1))
    assert set(first) == {"x", "i", "b"}
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert first["x"].min() < 0
    assert 0.1 <= other["x"].min() <= other["x"].max() < 1.1
    assert set(first["i"].tolist()) == {0, 1}
