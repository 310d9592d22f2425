"""Kernel calls: what each computed, how long it took, and how near that is to the limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphopt.artifact.format import Manifest
from graphopt.target import Limits


@dataclass(frozen=True)
class TimedCall:
    """`computes` are (module, source line) pairs. `floor_us` is the time that the operations take
    at the peak of one thread, None where no limits are known."""

    call: int
    kernel: str
    computes: tuple[tuple[str, str], ...]
    nanoseconds: int
    share: float
    flops: int
    bytes_moved: int
    floor_us: float | None

    @property
    def time_us(self) -> float:
        return self.nanoseconds / 1e3

    @property
    def gflops(self) -> float:
        """Operations per nanosecond."""
        return self.flops / max(self.nanoseconds, 1)

    @property
    def gbytes_per_s(self) -> float:
        return self.bytes_moved / max(self.nanoseconds, 1)

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.flops / max(self.bytes_moved, 1)

    @property
    def label(self) -> str:
        """The modules it computes, the source lines of those without a name."""
        return ", ".join(dict.fromkeys(module or source for module, source in self.computes))


def timed_calls(
    manifest: Manifest, nanoseconds: Sequence[int], limits: Limits | None
) -> list[TimedCall]:
    """The calls of an artifact in their order, with how long each took."""
    total = max(sum(nanoseconds), 1)
    return [
        TimedCall(
            i, call.kernel, tuple(call.computes), ns, ns / total, call.flops, call.bytes_moved,
            None if limits is None else call.flops / limits.gflops / 1e3,
        )
        for i, (call, ns) in enumerate(zip(manifest.calls, nanoseconds, strict=True))
    ]  # fmt: skip
