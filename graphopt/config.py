"""The settings that come from the environment. No other file reads `GRAPHOPT_*`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graphopt.errors import GraphoptError


@dataclass(frozen=True)
class Config:
    """`cache`: where built objects and records are kept (GRAPHOPT_CACHE, else ~/.cache/graphopt).
    `cc`: a C compiler instead of the pinned one (GRAPHOPT_CC). `jobs`: how many compilers run at
    once (GRAPHOPT_JOBS, else one per core)."""

    cache: Path
    cc: str | None = None
    jobs: int = 1

    @staticmethod
    def from_environment(environment: Mapping[str, str] | None = None) -> Config:
        """Read it anew. Raises: GraphoptError for a value that makes no sense."""
        env = os.environ if environment is None else environment
        base = env.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        cache = env.get("GRAPHOPT_CACHE") or os.path.join(base, "graphopt")
        return Config(Path(cache), env.get("GRAPHOPT_CC") or None, _jobs(env))


def _jobs(env: Mapping[str, str]) -> int:
    text = env.get("GRAPHOPT_JOBS", "")
    if not text:
        cores = getattr(os, "sched_getaffinity", None)
        return len(cores(0)) if cores else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise GraphoptError(
            f"GRAPHOPT_JOBS is {text!r}", hint="set it to the number of compilers to run at once"
        )
    return int(text)
