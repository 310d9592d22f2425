"""What a model uses and graphopt lacks: collected while importing, told all at once."""

from __future__ import annotations

from collections import Counter, defaultdict

from graphopt.errors import UnsupportedError

SHOWN_LINES = 4


class Missing:
    """Operators, or forms of them, by how often and on which source lines they stand."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lines: defaultdict[str, dict[str, None]] = defaultdict(dict)

    def __bool__(self) -> bool:
        return bool(self._counts)

    def note(self, what: str, line: str) -> None:
        self._counts[what] += 1
        self._lines[what][line or "<unknown>"] = None

    def error(self) -> UnsupportedError:
        """One line per operator, the most frequent first."""
        width = max(map(len, self._counts))
        many = "s" if len(self._counts) != 1 else ""
        rows = [
            f"  {what:<{width}}  {count}x  at {self._where(what)}"
            for what, count in self._counts.most_common()
        ]
        return UnsupportedError(
            f"the model uses {len(rows)} unsupported operator{many}:\n" + "\n".join(rows),
            hint="replace them in the model, or add their mapping to graphopt/frontend/aten",
        )

    def _where(self, what: str) -> str:
        lines = list(self._lines[what])
        more = len(lines) - SHOWN_LINES
        return ", ".join(lines[:SHOWN_LINES]) + (f" and {more} more lines" if more > 0 else "")
