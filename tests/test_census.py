"""The machinery of `python -m bench.census`: records of processes that end in every way, the table,
small configurations, and one model from its class to its record."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from bench.census.attempt import (
    CRASHED,
    PASSED,
    REFUSED,
    SKIPPED,
    SLOW,
    TOLERANCE,
    WRONG,
    Record,
    attempt,
    difference,
    isolated,
)
from bench.census.report import failed, read, table, write


def _hangs(name: str) -> Record:
    time.sleep(60)
    return Record(name, PASSED)


def _dies(name: str) -> Record:
    os._exit(3)


def test_processes() -> None:
    passed = isolated("bert", 30, lambda name: Record(name, PASSED, error=1e-7))
    assert (passed.type, passed.outcome, passed.error) == ("bert", PASSED, 1e-7)
    assert isolated("bert", 0.2, _hangs).outcome == SLOW
    dead = isolated("bert", 30, _dies)
    assert (dead.outcome, dead.detail) == (CRASHED, "exit status 3")


def test_differences() -> None:
    exact = np.array([1.0, -4.0, np.inf])
    assert difference(exact, exact, exact) == (0.0, TOLERANCE)
    off, allowed = difference(exact + np.array([0, 0.4, 0]), exact, exact + np.array([0.1, 0, 0]))
    assert off == pytest.approx(0.1)
    assert allowed == pytest.approx(0.2)  # eight times what eager is off
    assert difference(np.array([1.0, np.nan, np.inf]), exact, exact)[0] == np.inf
    assert difference(exact[:2], exact, exact)[0] == np.inf


def test_table(tmp_path: Path) -> None:
    records = {
        "a": Record("a", PASSED, error=1e-6),
        "b": Record("b", REFUSED, "no | such operator"),
        "c": Record("c", WRONG, "logits is off by 1"),
    }
    write(records, tmp_path)
    assert read(tmp_path) == records
    text = table(records.values())
    assert "3 types, from a to c." in text
    assert "| passed | 1 |" in text
    assert "| b | no \\| such operator |" in text
    assert failed(records.values()) == ["c"]


@pytest.mark.transformers
@pytest.mark.compiler
def test_a_model_type(tmp_path: Path) -> None:
    found = attempt("bert", tmp_path / "artifact")
    assert found.outcome == PASSED, found.detail
    assert attempt("no such type", tmp_path / "artifact").outcome == SKIPPED


@pytest.mark.transformers
def test_small_configurations() -> None:
    transformers = pytest.importorskip("transformers")
    from bench.census.small import small_config

    config = small_config(transformers.CLIPConfig)
    assert config.text_config.hidden_size == config.vision_config.hidden_size == 64
    assert config.vision_config.num_hidden_layers == 2


def test_media_have_their_places_in_the_text() -> None:
    """As many as the model wants: 16 patches of 8 by 8 of an image of 32 by 32."""
    pytest.importorskip("transformers")
    from bench.census.inputs import with_inputs
    from bench.census.small import small_model

    model, config = small_model("llava")
    flat, inputs = with_inputs("llava", model, config)
    given = dict(zip(flat.names, inputs, strict=True))
    assert given["pixel_values"].shape == (1, 3, 32, 32)
    assert given["input_ids"].shape == given["attention_mask"].shape == (1, 32)
    assert int((given["input_ids"] == config.image_token_id).sum()) == 16
