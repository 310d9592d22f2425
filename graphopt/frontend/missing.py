"""What a model uses and graphopt lacks: collected while importing, told all at once."""

from __future__ import annotations

from collections import Counter, defaultdict

from graphopt.errors import UnsupportedError

SHOWN_LINES = 4

_RANDOM = (
    "draw random numbers outside of the model and pass them as inputs; dropout is for training"
)
_OTHERS = "replace them in the model, or add their mapping to graphopt/frontend/aten"


class Missing:
    """Operators, or forms of them, by how often and on which source lines they stand."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lines: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._random: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._counts)

    def note(self, what: str, line: str, *, random: bool = False) -> None:
        """`random`: its results are drawn anew in every call."""
        self._counts[what] += 1
        if random:
            self._random.add(what)
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
            hint=self._hint(),
        )

    def _hint(self) -> str:
        if not self._random:
            return _OTHERS
        others = len(self._random) < len(self._counts)
        return f"{_RANDOM}; as for the others, {_OTHERS}" if others else _RANDOM

    def _where(self, what: str) -> str:
        lines = list(self._lines[what])
        more = len(lines) - SHOWN_LINES
        return ", ".join(lines[:SHOWN_LINES]) + (f" and {more} more lines" if more > 0 else "")
