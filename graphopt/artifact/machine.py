"""What the machine that this runs on can execute."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path


def architecture() -> str:
    """`x86_64`, `aarch64`, ... in the spelling of compiler triples."""
    name = platform.machine()
    return {"arm64": "aarch64", "AMD64": "x86_64"}.get(name, name)


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction set extensions by their Linux names; empty where the system does not tell."""
    return frozenset(_cpuinfo("flags|Features").split())


@cache
def cpu_model() -> str:
    """The processor's name, or its part number; empty where the system does not tell."""
    return _cpuinfo("model name|CPU part")


@cache
def cache_bytes(level: int) -> int:
    """Size of the data cache of a level that one core sees; 0 where the system does not tell."""
    for entry in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, own = (entry / "type").read_text().strip(), (entry / "level").read_text().strip()
            size = (entry / "size").read_text().strip()
        except OSError:
            continue
        if kind != "Instruction" and own == str(level) and size.endswith("K"):
            return int(size[:-1]) << 10
    return 0


def _cpuinfo(names: str) -> str:
    """A field of the first core's entry, by the names that architectures give it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            text = file.read(1 << 14)
    except OSError:
        return ""
    found = re.search(rf"^(?:{names})\s*:\s*(.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""
