"""Budgets and quantities: what is read, how it is printed, what is refused."""

from __future__ import annotations

import pytest

from graphopt.budget import Budget
from graphopt.errors import BudgetError, GraphoptError
from graphopt.units import format_bytes, format_seconds, parse_bytes, parse_seconds


def test_a_budget_from_text() -> None:
    budget = Budget.parse("size=2MB, memory=1.5MiB,latency=10ms")
    assert budget == Budget(size=2_000_000, memory=1_572_864, latency=0.01)
    assert str(budget) == "size 2.00 MB, memory 1.57 MB, latency 10.0 ms"
    assert Budget.parse("latency=250us").limits() == {"latency": pytest.approx(250e-6)}


REFUSED = [
    ("sise=2MB", "there is no budget 'sise=2MB'\nhint: did you mean 'size'?"),
    ("2MB", "there is no budget '2MB'\nhint: write size=2MB,memory=8MB,latency=10ms, any of them"),
    ("", "there is no budget ''\nhint: write size=2MB,memory=8MB,latency=10ms, any of them"),
    ("size=2MB,size=3MB", "budget 'size' is given twice\n"
     "hint: write size=2MB,memory=8MB,latency=10ms, any of them"),
    ("size=2", "budget size: '2' is not a size such as 2MB or 512KiB\n"
     "hint: write a number and one of B, kB, KB, MB, GB, KiB, MiB, GiB"),
    ("latency=-1ms", "budget latency: '-1ms' is not a time such as 10ms or 1.5s\n"
     "hint: write a number and one of s, ms, us, min"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_is_no_budget(text: str, message: str) -> None:
    with pytest.raises(BudgetError) as caught:
        Budget.parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (12_345, "12.3 kB"), (999_949, "1.00 MB"),
     (123_456_789, "123 MB"), (5e9, "5.00 GB")],
)  # fmt: skip
def test_sizes_have_three_digits(size: float, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ns"), (42e-9, "42 ns"), (1e-6, "1.00 us"), (0.0123, "12.3 ms"), (61.5, "61.5 s")],
)
def test_times_have_three_digits(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_quantities_are_read() -> None:
    assert parse_bytes("512 KiB") == 512 * 1024
    assert parse_bytes(".5kB") == 500
    assert parse_seconds("2min") == 120
    with pytest.raises(GraphoptError, match="'1e3B' is not a size"):
        parse_bytes("1e3B")
