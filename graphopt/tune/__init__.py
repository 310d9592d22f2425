"""Search of schedules by measurement: spaces, worker processes, records.

The package can be called: `graphopt.tune(model, inputs, trials=200)` is `session.tune`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A package whose name is also what one does with it."""

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        from graphopt.tune.session import tune

        return tune(*arguments, **named)


sys.modules[__name__].__class__ = _Callable
