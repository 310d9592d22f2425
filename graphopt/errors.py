"""Every error graphopt raises on purpose: what happened, where, and one action that mends it."""

from __future__ import annotations


class GraphoptError(Exception):
    """A mistake that the user can mend. `hint` is one action; the command line exits with 2."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class IRError(GraphoptError):
    """The graph or kernel IR is malformed: a type, an operand or an attribute does not fit."""


class ParseError(IRError):
    """IR text that does not parse. Carries the position, 1-based."""

    def __init__(self, message: str, *, line: int, column: int, hint: str | None = None) -> None:
        super().__init__(f"line {line}, column {column}: {message}", hint=hint)
        self.line, self.column = line, column


class FrontendError(GraphoptError):
    """The source cannot be loaded, traced or imported."""


class UnsupportedError(GraphoptError):
    """Operators or features that graphopt does not support; all of them at once."""


class PluginError(GraphoptError):
    """A plugin cannot be found, imported, or keeps less than it promises."""


class GateError(GraphoptError):
    """A pass broke the numerics it declared."""


class BuildError(GraphoptError):
    """The compiler is missing or failed."""


class ArtifactError(GraphoptError):
    """An artifact is missing, corrupt, or not for this machine."""


class InputError(GraphoptError):
    """A tensor passed at run time does not fit the compiled model."""


class BudgetError(GraphoptError):
    """A --budget does not hold."""


class InternalError(Exception):
    """A bug in graphopt; never caused by input alone."""
