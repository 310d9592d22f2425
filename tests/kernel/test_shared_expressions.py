"""Names for expressions that are used more than once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.types import DType
from graphopt.kernel.ir import Buffer, Call, Expr, Load, Scope, Var, binary, const, index_var
from graphopt.kernel.sharing import share
from graphopt.kernel.visit import ExprMap

F32 = DType.F32
A, B = (Buffer(name, F32, (8,), (1,), Scope.PARAM) for name in "ab")
REGISTER = Buffer("acc", F32, (), (), Scope.REGISTER)


def at(buffer: Buffer, index: str) -> Expr:
    return Load(F32, 1, buffer, (index_var(index),))


def names(bindings: list[tuple[str, Expr]]) -> list[str]:
    return [name for name, _ in bindings]


def test_equal_expressions_are_bound_once() -> None:
    bindings, (root,) = share([binary("*", at(A, "i"), at(A, "i"))], first=3)
    assert bindings == [("t3", at(A, "i"))]
    t3 = Var(F32, 1, "t3")
    assert root == binary("*", t3, t3)


def test_an_object_that_two_places_hold_is_bound_once() -> None:
    root = Call(F32, 1, "exp", (at(A, "i"),))
    bindings, (first, second) = share([root, root])
    assert names(bindings) == ["t0"]
    assert first == second == Var(F32, 1, "t0")


def test_where_no_two_are_of_a_kind_all_stays() -> None:
    root = binary("+", binary("*", at(A, "i"), at(B, "i")), const(1.0, F32))
    assert share([root]) == ([], [root])
    assert share([root])[1][0] is root


def test_elements_of_one_buffer_are_of_a_kind_and_not_equal() -> None:
    root = binary("*", at(A, "i"), at(A, "j"))
    assert share([root]) == ([], [root])


def test_registers_and_indices_get_no_name() -> None:
    acc = Load(F32, 1, REGISTER, ())
    assert share([binary("*", acc, acc)])[0] == []
    i = binary("+", index_var("i"), index_var("j"))
    assert share([binary("*", Load(F32, 1, A, (i,)), Load(F32, 1, B, (i,)))])[0] == []


def test_zeros_of_both_signs_are_two() -> None:
    plus, minus = (Call(F32, 1, "exp", (const(zero, F32),)) for zero in (0.0, -0.0))
    assert share([binary("+", plus, minus)])[0] == []


LEAVES = st.sampled_from([at(A, "i"), at(A, "j"), at(B, "i"), Load(F32, 1, REGISTER, ())])
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(binary, st.sampled_from("+*"), inner, inner)
        | st.builds(lambda e: Call(F32, 1, "exp", (e,)), inner)
    ),
    max_leaves=12,
)


@given(st.lists(EXPRESSIONS, min_size=1, max_size=3))
def test_names_stand_for_what_was_there(roots: list[Expr]) -> None:
    bindings, shared = share(roots)
    values: dict[str, Expr] = {}

    def written_out(e: Expr) -> Expr:
        return ExprMap(lambda x: values.get(x.name, x) if isinstance(x, Var) else x)(e)

    for name, value in bindings:
        values[name] = written_out(value)
    assert [written_out(e) for e in shared] == roots
    assert len({*values.values()}) == len(values)
