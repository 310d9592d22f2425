"""Sizes and times as people write them: `2MB`, `512KiB`, `10ms`."""

from __future__ import annotations

import re

from graphopt.errors import GraphoptError

BYTES = {
    "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}  # fmt: skip
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0}

_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([A-Za-z]*)")


def parse_bytes(text: str) -> int:
    """Raises: GraphoptError."""
    return round(_parse(text, BYTES, "a size such as 2MB or 512KiB"))


def parse_seconds(text: str) -> float:
    """Raises: GraphoptError."""
    return _parse(text, SECONDS, "a time such as 10ms or 1.5s")


def format_bytes(size: float) -> str:
    """Three digits, in powers of 1000."""
    return format_count(size, "B")


def format_count(number: float, unit: str) -> str:
    """Three digits and a prefix: `3.60 GFLOP`."""
    for prefix, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * scale:
            return f"{_three(number / scale)} {prefix}{unit}"
    return f"{number:.0f} {unit}"


def format_binary(size: int) -> str:
    """In powers of 1024, as caches are sold; 32 KiB."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size / scale:g} {unit}"
    return f"{size} B"


def format_seconds(seconds: float) -> str:
    """Three digits, in the unit that fits."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * scale:
            return f"{_three(seconds / scale)} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _three(number: float) -> str:
    places = 0 if number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{places}f}"


def _parse(text: str, units: dict[str, float] | dict[str, int], what: str) -> float:
    found = _QUANTITY.fullmatch(text.strip())
    if found is None or found.group(2) not in units:
        raise GraphoptError(
            f"{text!r} is not {what}", hint=f"write a number and one of {', '.join(units)}"
        )
    return float(found.group(1)) * units[found.group(2)]
