"""Artifacts of all cases, compiled ahead: it takes nvcc and no GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from importlib import util
from pathlib import Path

from bench.gpu.cases import CUTLASS, TUNED, Case
from graphopt.artifact.format import MANIFEST
from graphopt.driver import Options, build
from graphopt.errors import GraphoptError


def prepare(
    cases: Iterable[Case], folder: Path, target: str, say: Callable[[str], None]
) -> dict[str, str]:
    """Compile what is not there yet; what went wrong, by artifact. Those with CUTLASS are left out
    where its headers are not installed."""
    failures: dict[str, str] = {}
    for case in cases:
        for engine, name in case.folders.items():
            if engine == TUNED:  # on the machine that measures, alone
                continue
            if (folder / name / MANIFEST).is_file():
                say(f"{name}: is there")
                continue
            if engine == CUTLASS and util.find_spec("cutlass_library") is None:
                say(f"{name}: left out, the wheel nvidia-cutlass is not installed")
                continue
            start = time.perf_counter()
            try:
                build(case.source, target=target, out=folder / name, options=_options(case, engine))
            except GraphoptError as error:
                failures[name] = str(error)
                say(f"{name}: {error.message}")
            else:
                say(f"{name}: {time.perf_counter() - start:.0f} s")
    return failures


def _options(case: Case, engine: str) -> Options:
    vendor = "cutlass,cublaslt,cudnn" if engine == CUTLASS else "auto"
    return Options(precision=case.precision, vendor=vendor)
