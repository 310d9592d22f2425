"""Artifacts of all cases, compiled ahead: it takes nvcc and no GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.gpu.cases import Case
from graphopt.artifact.format import MANIFEST
from graphopt.driver import Options, build
from graphopt.errors import GraphoptError


def prepare(
    cases: Iterable[Case], folder: Path, target: str, say: Callable[[str], None]
) -> dict[str, str]:
    """Compile what is not there yet; what went wrong, by case."""
    failures: dict[str, str] = {}
    for case in cases:
        out = folder / case.folder
        if (out / MANIFEST).is_file():
            say(f"{case.folder}: is there")
            continue
        start = time.perf_counter()
        try:
            build(case.source, target=target, out=out, options=Options(precision=case.precision))
        except GraphoptError as error:
            failures[case.folder] = str(error)
            say(f"{case.folder}: {error.message}")
        else:
            say(f"{case.folder}: {time.perf_counter() - start:.0f} s")
    return failures
