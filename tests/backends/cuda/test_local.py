"""Which row of the table is this machine's."""

from __future__ import annotations

import pytest
from graphopt_backends.cuda import local


@pytest.mark.parametrize(
    ("capability", "row"),
    [(80, "sm_80"), (86, "sm_80"), (89, "sm_89"), (90, "sm_90a"), (100, "sm_100"),
     (103, "sm_100"), (75, "sm_90a"), (None, "sm_90a")],
)  # fmt: skip
def test_the_row_that_fits_best(capability: int | None, row: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(local, "_capability", lambda: capability)
    assert local.local_target.__wrapped__().name == row
