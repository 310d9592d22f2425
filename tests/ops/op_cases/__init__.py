"""One table of op calls on edge shapes: what the tests of meanings, inference and text run over.

`expect` says the same in torch, which is passed in: importing this table does not import it.
"""

from op_cases import elementwise, movement, rows, spatial
from op_cases.base import Case

CASES: tuple[Case, ...] = elementwise.CASES + movement.CASES + rows.CASES + spatial.CASES

__all__ = ["CASES", "Case"]
