"""Speed beside the peers: each engine at its best setting, in one run, taking turns."""

from graphopt.check.peers.race import Contender, Lap, race
from graphopt.check.peers.table import as_json, from_json, table

__all__ = ["Contender", "Lap", "as_json", "from_json", "race", "table"]
