"""Fixtures for tests of passes: the functions that `graphopt.check` gives plugin authors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from graphopt import check


@pytest.fixture(scope="session")
def check_pass() -> Callable[..., object]:
    return check.check_pass


@pytest.fixture(scope="session")
def check_refuses() -> Callable[..., object]:
    return check.check_refuses
