"""IR text for tests that share definitions."""

from __future__ import annotations

import re


def with_used(definitions: str, body: str) -> str:
    """`body` after those definitions, one a line, that it reads; inputs are kept in any case."""
    read = set(re.findall(r"%[\w.]+", body))
    lines = [line.strip() for line in definitions.strip().splitlines()]
    kept = [n for n in lines if " = input " in n or n.split(" ", 1)[0] in read]
    return "\n".join([*kept, body])
