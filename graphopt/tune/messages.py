"""What is said between a tuning run and its worker. A `Case` opens a region."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.target import Target
from graphopt.tune.candidate import Candidate
from graphopt.tune.database import Outcome


@dataclass(frozen=True)
class Start:
    """The first message. Files are made in `folder`, which the sender removes."""

    target: Target
    cc: str | None
    core: int
    folder: str


@dataclass(frozen=True)
class Prebuild:
    """Compile these at the same time, so that preparing them one by one finds them built."""

    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Prepare:
    """Build, load and check a candidate. Answered by Ready or Failed."""

    candidate: Candidate


@dataclass(frozen=True)
class Time:
    """Run two prepared kernels in turns. Answered by their times in nanoseconds."""

    kernels: tuple[str, str]
    rounds: int


@dataclass(frozen=True)
class Forget:
    """Let go of a kernel and its weights."""

    kernel: str


@dataclass(frozen=True)
class Ready:
    run_ns: int


@dataclass(frozen=True)
class Failed:
    outcome: Outcome
    message: str
