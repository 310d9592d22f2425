"""The table of a census: JSON to read again, markdown to read."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from bench.census.attempt import FAILURES, OUTCOMES, PASSED, Record

JSON, TABLE = "census.json", "census.md"


def read(folder: Path) -> dict[str, Record]:
    """The records of an earlier run, by type."""
    path = folder / JSON
    if not path.exists():
        return {}
    return {r["type"]: Record(**r) for r in json.loads(path.read_text())}


def write(records: Mapping[str, Record], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ordered = [records[t] for t in sorted(records)]
    rows = [json.dumps(dataclasses.asdict(r)) for r in ordered]
    (folder / JSON).write_text("[\n" + ",\n".join(rows) + "\n]\n")
    (folder / TABLE).write_text(table(ordered))


def table(records: Iterable[Record]) -> str:
    """How many of each outcome, then every type that did not pass, and why."""
    records = list(records)
    counts = Counter(r.outcome for r in records)
    lines = ["# Census of transformers' model types", ""]
    if records:
        lines += [f"{len(records)} types, from {records[0].type} to {records[-1].type}.", ""]
    lines += ["| outcome | types |", "|---|---|"]
    lines += [f"| {o} | {counts[o]} |" for o in OUTCOMES if counts[o]]
    lines += ["", "## Which passed", "", ", ".join(_types(records, PASSED)) or "None."]
    for outcome in OUTCOMES:
        chosen = [r for r in records if r.outcome == outcome and outcome != PASSED]
        if chosen:
            lines += ["", f"## {outcome.capitalize()}", "", "| type | why |", "|---|---|"]
            lines += [f"| {r.type} | {_cell(r.detail)} |" for r in chosen]
    return "\n".join(lines) + "\n"


def failed(records: Iterable[Record]) -> list[str]:
    """Types whose outcome is a defect of graphopt."""
    return [r.type for r in records if r.outcome in FAILURES]


def _types(records: Iterable[Record], outcome: str) -> list[str]:
    return [r.type for r in records if r.outcome == outcome]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")[:200]
