"""What this GPU is, and what it can do, measured: the roof that kernels stand under."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

import torch

from bench.gpu import clock

_COPY_BYTES = 1 << 30
_EDGE = 8192
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "tf32": torch.float32,
           "fp32": torch.float32}  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """Bytes per second read and written by a large copy; operations per second of a large product,
    by precision."""

    bytes_per_s: float
    flops_per_s: dict[str, float]

    def floor_s(self, flops: int, bytes_moved: int, precision: str) -> float:
        """The least time that the work of a kernel can take."""
        return max(bytes_moved / self.bytes_per_s, flops / self.flops_per_s[precision])


def measure(emulated: bool = False) -> Limits:
    """On a CPU with small shapes, to have numbers at all."""
    device = "cpu" if emulated else "cuda"
    size, edge = (1 << 24, 256) if emulated else (_COPY_BYTES, _EDGE)
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy_s = clock.median(lambda: target.copy_(source))
    rates = {}
    for name, dtype in _DTYPES.items():
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        a, b = (torch.randn(edge, edge, device=device).to(dtype) for _ in range(2))
        out = torch.empty_like(a)
        seconds = clock.median(lambda a=a, b=b, out=out: torch.mm(a, b, out=out))
        rates[name] = 2 * edge**3 / seconds
    return Limits(2 * size / copy_s, rates)


def machine() -> dict[str, Any]:
    gpu = torch.cuda.get_device_properties(0) if clock.on_gpu() else None
    return {
        "device": gpu.name if gpu else f"{platform.processor() or platform.machine()}, emulated",
        "memory_bytes": gpu.total_memory if gpu else 0,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
