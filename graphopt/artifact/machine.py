"""What the machine that this runs on can execute."""

from __future__ import annotations

import platform
import re
from functools import cache


def architecture() -> str:
    """`x86_64`, `aarch64`, ... in the spelling of compiler triples."""
    name = platform.machine()
    return {"arm64": "aarch64", "AMD64": "x86_64"}.get(name, name)


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction set extensions by their Linux names; empty where the system does not tell."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            text = file.read(1 << 14)  # the first core's entry
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()
