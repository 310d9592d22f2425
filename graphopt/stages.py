"""What graph and kernel pipelines share: text such as `fuse{max-inputs=8}` ↔ passes with typed
options, and blame. Whatever goes wrong in a pass is its distribution's error, by name."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from graphopt.deadline import DeadlineError, within
from graphopt.errors import (
    BudgetError,
    GateError,
    GraphoptError,
    IRError,
    PluginError,
    UnsupportedError,
)
from graphopt.plugins import Entry, registry
from graphopt.syntax.lexer import Token, Tokens
from graphopt.syntax.literals import (
    MismatchError,
    Raw,
    coerce,
    field_types,
    format_literal,
    parse_fields,
)

if TYPE_CHECKING:
    from graphopt.passbase import Numerics

# A pass may find that the user asks for something impossible; that is not the plugin's fault.
_USER_ERRORS = (BudgetError, UnsupportedError)
T = TypeVar("T")


class AnyPass(Protocol):
    """A pass over graphs or kernels: a name, and what it promises about values."""

    @property
    def name(self) -> str: ...

    @property
    def numerics(self) -> Numerics: ...


P = TypeVar("P", bound=AnyPass)


@dataclass(frozen=True)
class Kind(Generic[P]):
    """A kind of pass: the manifest's table that lists it, what to call it, its base class, and the
    table of its pipelines by level."""

    table: str
    noun: str
    base: type
    levels: str


@dataclass(frozen=True)
class Stage(Generic[P]):
    """A pass and the distribution it comes from ("" for one made by hand)."""

    pass_: P
    distribution: str = ""
    noun: str = "pass"

    def __str__(self) -> str:
        return format_pass(self.pass_)

    @property
    def owner(self) -> str:
        """`pass fuse of graphopt 0.1.0`."""
        of = f" of {self.distribution}" if self.distribution else ""
        return f"{self.noun} {self.pass_.name}{of}"


# Blame -------------------------------------------------------------------------------------------


def run_stage(stage: Stage[P], function: Callable[[], T], timeout_s: float, result: type[T]) -> T:
    """What a pass returns.

    Raises: PluginError naming the pass when it raises, never ends or returns something else;
    whatever BudgetError or UnsupportedError it has to report.
    """
    try:
        out = within(timeout_s, function)
    except DeadlineError as error:
        raise PluginError(
            f"{stage.owner} did not end within {timeout_s:g} s",
            hint="raise --pass-timeout, or leave the pass out",
        ) from error
    except _USER_ERRORS:
        raise
    except PluginError as error:
        message = error.message.removeprefix(f"pass {stage.pass_.name} ")
        raise PluginError(f"{stage.owner}: {message}", hint=error.hint) from error
    except Exception as error:
        raise broken(stage, _summary(error), error) from error
    if not isinstance(out, result):
        raise broken(stage, f"returned {type(out).__name__}, not a {result.__name__}")
    return out


def check_stage(stage: Stage[P], verify: Callable[[], object]) -> None:
    """Verify what a pass returned. Raises: PluginError naming the pass."""
    try:
        verify()
    except IRError as error:
        raise broken(stage, f"returned broken IR: {error.message}", error) from error


def gate_stage(stage: Stage[P], gate: Callable[[], None]) -> None:
    """Let a gate judge a pass. Raises: GateError that names the distribution, too."""
    try:
        gate()
    except GateError as error:
        if not stage.distribution or stage.distribution in error.message:
            raise
        raise GateError(
            f"{error.message}\nit comes from {stage.distribution}", hint=error.hint
        ) from error


def broken(stage: Stage[P], what: str, error: Exception | None = None) -> PluginError:
    """The error that says what a pass did wrong."""
    hint = getattr(error, "hint", None) or "leave the pass out and report this to its author"
    return PluginError(f"{stage.owner} {what}", hint=hint)


def _summary(error: Exception) -> str:
    message = error.message if isinstance(error, GraphoptError) else str(error)
    return f"raised {type(error).__name__}: {message}"


# Text --------------------------------------------------------------------------------------------


def parse_stages(text: str, kind: Kind[P]) -> tuple[Stage[P], ...]:
    """Passes separated by commas; `@O2` stands for those of that level.

    Raises: ParseError for malformed text; PluginError for an unknown pass, option or level.
    """
    tokens = Tokens(text)
    stages: list[Stage[P]] = []
    first = True
    while tokens.peek.kind != "end":
        if not first:
            tokens.expect(",", hint="separate passes by commas")
        first = False
        if tokens.accept("@"):
            level = tokens.expect_kind("word", "an optimization level").text
            stages += parse_stages(level_text(kind.levels, level), kind)
        else:
            stages.append(_parse_stage(tokens, kind))
    return tuple(stages)


def level_text(table: str, level: str) -> str:
    """The pipeline of an optimization level. Raises: PluginError when there is no such level."""
    levels = registry().find("pipelines", table).load()
    if level not in levels:
        raise PluginError(
            f"there is no optimization level {level!r}",
            hint=f"choose one of {', '.join(levels)}",
        )
    return ",".join(text for text, _ in levels[level])


def format_pass(pass_: AnyPass) -> str:
    """`name{option=value}`, options at their default left out."""
    options = []
    for name in _options(type(pass_), pass_.name):
        value = getattr(pass_, name)
        if value != _default(type(pass_), name):
            options.append(f"{_kebab(name)}={format_literal(value, bare=True)}")
    return pass_.name + (f"{{{','.join(options)}}}" if options else "")


def default_options(cls: type, name: str) -> dict[str, str]:
    """The options of a pass, by the names used in text, with their defaults; "" where there is
    none."""
    out: dict[str, str] = {}
    for option in _options(cls, name):
        value = _default(cls, option)
        missing = value is dataclasses.MISSING
        out[_kebab(option)] = "" if missing else format_literal(value, bare=True)
    return out


def _parse_stage(tokens: Tokens, kind: Kind[P]) -> Stage[P]:
    token = tokens.expect_kind("word", f"a {kind.noun}")
    entry = registry().find(kind.table, token.text)
    cls = _pass_class(entry, kind)
    raw = parse_fields(tokens) if tokens.at("{") else {}
    owner = f"{entry.distribution} {entry.version}"
    try:
        made = cls(**_coerce_options(tokens, cls, raw, entry, kind.noun))
        return Stage(cast(P, made), owner, kind.noun)
    except (GraphoptError, TypeError, ValueError) as error:
        if isinstance(error, PluginError | IRError):
            raise
        what = f"{kind.noun} {entry.name} of {owner}"
        raise PluginError(f"{what} refuses its options: {error}") from error


def _pass_class(entry: Entry, kind: Kind[P]) -> type:
    cls = entry.load()
    if not isinstance(cls, type) or not issubclass(cls, kind.base):
        base = kind.base
        raise PluginError(
            f"{entry.name!r} of {entry.distribution} is {cls!r}, not a {base.__name__}",
            hint=f"its manifest must name a subclass of {base.__module__}.{base.__name__} "
            f"({entry.reference})",
        )
    return cls


def _coerce_options(
    tokens: Tokens, cls: type, raw: dict[str, tuple[Token, Raw]], entry: Entry, noun: str
) -> dict[str, Any]:
    types = {_kebab(name): (name, hint) for name, hint in _options(cls, entry.name).items()}
    out: dict[str, Any] = {}
    for option, (token, value) in raw.items():
        if option not in types:
            raise PluginError(
                f"{noun} {entry.name} of {entry.distribution} has no option {option!r}",
                hint=_nearest_option(option, types),
            )
        name, hint = types[option]
        try:
            out[name] = coerce(value, hint)
        except MismatchError as expected:
            tokens.fail(f"option {option} of {noun} {entry.name} must be {expected}", token)
    return out


def _nearest_option(option: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(option, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"its options are {', '.join(names)}" if names else "it has no options"


def _options(cls: type, name: str) -> Mapping[str, Any]:
    """Field name → type; empty for a pass that is no dataclass."""
    if not dataclasses.is_dataclass(cls):
        return {}
    try:
        return field_types(cls)
    except NameError as error:
        raise PluginError(
            f"the options of pass {name} cannot be read: {error}",
            hint=f"import the types of its fields at run time in {cls.__module__}",
        ) from error


def _default(cls: type, name: str) -> object:
    (field,) = (f for f in dataclasses.fields(cls) if f.name == name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _kebab(name: str) -> str:
    return name.replace("_", "-")
