"""Where a traced node came from, in the user's own names."""

from __future__ import annotations

import functools
import os
import re
from typing import Any

import torch

from graphopt.ir.graph import Loc

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_ITEM = re.compile(r"\[['\"]?([^'\"\]]*)['\"]?\]")
_TORCH = os.path.dirname(torch.__file__) + os.sep


def provenance(meta: dict[str, Any]) -> Loc:
    """Module path of the innermost module (`encoder.layer.0.attention`) and `file.py:line`."""
    return Loc(
        _module(meta.get("nn_module_stack") or {}), source_line(meta.get("stack_trace") or "")
    )


def _module(stack: dict[str, Any]) -> str:
    return module_path(str(list(stack.values())[-1][0])) if stack else ""


@functools.cache
def module_path(path: str) -> str:
    """`L['self'].layers._modules['0'].conv` as `layers.0.conv`."""
    path = re.sub(r"^L\[['\"]\w+['\"]\]|^self\b", "", path)
    path = re.sub(r"\._modules|_export_root\.?|\._fn\b", "", path)
    return _ITEM.sub(r".\1", path).strip(".")


@functools.cache
def source_line(trace: str) -> str:
    """The innermost frame that is not torch's own."""
    frames = [(path, line) for path, line in _FRAME.findall(trace) if path[0] != "<"]
    for path, line in reversed(frames):
        if not path.startswith(_TORCH):
            return f"{os.path.basename(path)}:{line}"
    return f"{os.path.basename(frames[-1][0])}:{frames[-1][1]}" if frames else ""
