"""`@O2` in pipeline text: the passes of a level, to put others before and after."""

from __future__ import annotations

import pytest

from graphopt.driver import Options, default_pipeline
from graphopt.errors import ParseError, PluginError
from graphopt.pipeline import Pipeline


def test_a_level_stands_for_its_passes() -> None:
    level = str(default_pipeline(Options(level="O1")))
    pipeline = Pipeline.parse("cancel-casts,@O1,fold-bias")
    assert str(pipeline) == f"cancel-casts,{level},fold-bias"
    assert str(Pipeline.parse("@O1")) == level


def test_mistakes() -> None:
    with pytest.raises(PluginError) as unknown:
        Pipeline.parse("fuse,@O7")
    assert str(unknown.value).startswith("there is no optimization level 'O7'\nhint: choose one of")
    with pytest.raises(ParseError) as missing:
        Pipeline.parse("@,fuse")
    assert "line 1, column 2: " in str(missing.value)
    assert "an optimization level" in str(missing.value)
