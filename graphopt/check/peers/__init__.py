"""Speed beside the peers: each engine at its best setting, in one run, taking turns."""

from graphopt.check.peers.engines import ENGINES, OURS
from graphopt.check.peers.race import Contender, Lap, race
from graphopt.check.peers.table import (
    COLUMNS,
    as_json,
    costs,
    engines_of,
    from_json,
    lead,
    rows,
    table,
)

__all__ = [
    "COLUMNS", "ENGINES", "OURS", "Contender", "Lap", "as_json", "costs", "engines_of", "from_json",
    "lead", "race", "rows", "table",
]  # fmt: skip
