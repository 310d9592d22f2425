"""Every ATen operator that imports, in one explicit table: `aten.conv2d.default` -> its mapping."""

from __future__ import annotations

from graphopt.frontend.aten.attention import ATTENTION_OPS
from graphopt.frontend.aten.collecting import COLLECTING
from graphopt.frontend.aten.contraction import CONTRACTION
from graphopt.frontend.aten.creation import CREATION
from graphopt.frontend.aten.indexing import INDEXING
from graphopt.frontend.aten.masking import MASKING
from graphopt.frontend.aten.movement import MOVEMENT
from graphopt.frontend.aten.normalization import NORMALIZATION
from graphopt.frontend.aten.pointwise import POINTWISE
from graphopt.frontend.aten.reduction import REDUCTION
from graphopt.frontend.aten.resize import RESIZE
from graphopt.frontend.aten.sampling import SAMPLING
from graphopt.frontend.aten.scans import SCANS
from graphopt.frontend.aten.window import WINDOW
from graphopt.frontend.builder import Mapping

ATEN: dict[str, Mapping] = {
    **POINTWISE,
    **CONTRACTION,
    **NORMALIZATION,
    **ATTENTION_OPS,
    **REDUCTION,
    **CREATION,
    **MOVEMENT,
    **INDEXING,
    **MASKING,
    **WINDOW,
    **COLLECTING,
    **SCANS,
    **RESIZE,
    **SAMPLING,
}
