"""Loops over registers are written out."""

from __future__ import annotations

from graphopt_backends.cpu.emit.registers import constant_range, unroll_registers

from graphopt.ir.types import DType
from graphopt.kernel.ir import (
    Block,
    Buffer,
    For,
    Let,
    Load,
    LoopKind,
    Ramp,
    Scope,
    Store,
    Var,
    index_const,
    index_var,
)

F32 = DType.F32
A = Buffer("a", F32, (2,), (1,), Scope.PARAM)
ACC = Buffer("acc", F32, (2, 8), (8, 1), Scope.REGISTER, 16)
AT = index_var("i")


def test_copies_that_bind_are_blocks_of_their_own() -> None:
    store = Store(ACC, (AT, index_const(0)), Var(F32, 1, "x"))
    loop = For("i", 2, Block((Let("x", Load(F32, 1, A, (AT,))), store)), LoopKind.UNROLL)
    unrolled = unroll_registers(loop)
    assert isinstance(unrolled, Block)
    assert [type(s) for s in unrolled.body] == [Block, Block]


def test_loops_that_index_no_register_stay() -> None:
    loop = For("i", 2, Store(A, (AT,), Var(F32, 1, "x")), LoopKind.UNROLL)
    assert unroll_registers(loop) == loop


def test_elements_of_an_access() -> None:
    lanes = Ramp(DType.I64, 8, index_const(0), 1)
    assert constant_range(ACC, (index_const(1), lanes)) == (24, 8)
    assert constant_range(ACC, (index_const(1), index_const(3))) == (27, 1)
