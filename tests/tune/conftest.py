"""`from regions import graph_of`: how tests of the CPU backend make graphs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "backends" / "cpu"))
