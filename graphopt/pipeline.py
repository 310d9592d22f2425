"""Pipelines: text such as `fold-batchnorm,fuse{max-inputs=8}` ↔ passes, and running them.

A pass is a plugin: whatever goes wrong in it is reported as its distribution's error, by name.
"""

from __future__ import annotations

import dataclasses
import difflib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from graphopt.deadline import DeadlineError, within
from graphopt.errors import (
    BudgetError,
    GateError,
    GraphoptError,
    IRError,
    PluginError,
    UnsupportedError,
)
from graphopt.ir.graph import Graph
from graphopt.ir.text import print_graph
from graphopt.ir.verify import verify
from graphopt.passbase import Pass, PassContext
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

PASS_TIMEOUT_S = 300.0

# A pass may find that the user asks for something impossible; that is not the plugin's fault.
_USER_ERRORS = (BudgetError, UnsupportedError)

Gate = Callable[[Pass, Graph, Graph], None]
"""`gate(pass, before, after)`. Raises: GateError when the pass broke the numerics it declares."""


@dataclass(frozen=True)
class Timing:
    """One pass of one run: how long it took, what it did."""

    pass_name: str
    seconds: float
    rewrites: int
    nodes_before: int
    nodes_after: int


@dataclass(frozen=True)
class Stage:
    """A pass and the distribution it comes from ("" for one made by hand)."""

    pass_: Pass
    distribution: str = ""

    def __str__(self) -> str:
        return format_pass(self.pass_)

    @property
    def owner(self) -> str:
        """`pass fuse of graphopt 0.1.0`."""
        return f"pass {self.pass_.name}" + (f" of {self.distribution}" if self.distribution else "")


@dataclass(frozen=True)
class Pipeline:
    """Passes in the order they run. `str(pipeline)` is text that `Pipeline.parse` reads back."""

    stages: tuple[Stage, ...]

    @staticmethod
    def parse(text: str) -> Pipeline:
        """Raises: ParseError for malformed text; PluginError for an unknown pass or option."""
        tokens = Tokens(text)
        stages: list[Stage] = []
        while tokens.peek.kind != "end":
            if stages:
                tokens.expect(",", hint="separate passes by commas")
            stages.append(_parse_stage(tokens))
        return Pipeline(tuple(stages))

    @staticmethod
    def of(passes: Iterable[Pass]) -> Pipeline:
        """A pipeline of passes made by hand."""
        return Pipeline(tuple(Stage(p) for p in passes))

    @property
    def passes(self) -> tuple[Pass, ...]:
        return tuple(s.pass_ for s in self.stages)

    def __str__(self) -> str:
        return ",".join(map(str, self.stages))

    def run(
        self,
        graph: Graph,
        ctx: PassContext | None = None,
        *,
        verify_each: bool = False,
        gate: Gate | None = None,
        print_after: Callable[[Pass, Graph], None] | None = None,
        timings: list[Timing] | None = None,
        announce: Callable[[str], None] | None = None,
        pass_timeout_s: float = PASS_TIMEOUT_S,
    ) -> Graph:
        """Run every pass in order; `graph` stays as it is.

        `verify_each` checks the IR after every pass, and that the pass left its input alone; the
        result is verified in any case. `gate` then compares before and after. `timings` gets one
        entry per pass; `announce` is called with the name of each as it starts. A pass that needs
        longer than `pass_timeout_s` is stopped.

        Raises: PluginError naming the pass and its distribution when it raises, never ends or
        returns broken IR; GateError; whatever BudgetError or UnsupportedError a pass has to report.
        """
        ctx = ctx if ctx is not None else PassContext()
        for stage in self.stages:
            if announce is not None:
                announce(stage.pass_.name)
            start, rewrites, before = time.perf_counter(), ctx.rewrites, graph
            graph = _run_stage(stage, before, ctx, verify_each, pass_timeout_s)
            seconds = time.perf_counter() - start
            if timings is not None:
                sizes = len(before.nodes), len(graph.nodes)
                timings.append(Timing(stage.pass_.name, seconds, ctx.rewrites - rewrites, *sizes))
            if print_after is not None:
                print_after(stage.pass_, graph)
            if gate is not None:
                _gate(stage, gate, before, graph)
        if not verify_each:
            _verify_result(graph)
        return graph


# Running -----------------------------------------------------------------------------------------


def _run_stage(
    stage: Stage, graph: Graph, ctx: PassContext, verify_each: bool, timeout_s: float
) -> Graph:
    # Scaling a weight in place would change the graph the pass was given: let numpy refuse.
    for array in graph.constants.values():
        array.setflags(write=False)
    text = print_graph(graph) if verify_each else ""
    try:
        result = within(timeout_s, lambda: stage.pass_.run(graph, ctx))
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
        raise _broken(stage, _summary(error), error) from error
    if not isinstance(result, Graph):
        raise _broken(stage, f"returned {type(result).__name__}, not a Graph")
    if verify_each:
        _verify_stage(stage, result, graph, text)
    return result


def _verify_stage(stage: Stage, result: Graph, given: Graph, given_text: str) -> None:
    if print_graph(given) != given_text:
        raise _broken(stage, "changed the graph it was given; only a Rewriter's copy may change")
    try:
        verify(result)
    except IRError as error:
        raise _broken(stage, f"returned broken IR: {error.message}", error) from error


def _verify_result(graph: Graph) -> None:
    try:
        verify(graph)
    except IRError as error:
        raise PluginError(
            f"the pipeline returned broken IR: {error.message}",
            hint="run again with --verify-each to learn which pass is to blame",
        ) from error


def _gate(stage: Stage, gate: Gate, before: Graph, after: Graph) -> None:
    try:
        gate(stage.pass_, before, after)
    except GateError as error:
        if not stage.distribution or stage.distribution in error.message:
            raise
        raise GateError(
            f"{error.message}\nit comes from {stage.distribution}", hint=error.hint
        ) from error


def _summary(error: Exception) -> str:
    message = error.message if isinstance(error, GraphoptError) else str(error)
    return f"raised {type(error).__name__}: {message}"


def _broken(stage: Stage, what: str, error: Exception | None = None) -> PluginError:
    hint = getattr(error, "hint", None) or "leave the pass out and report this to its author"
    return PluginError(f"{stage.owner} {what}", hint=hint)


# Text --------------------------------------------------------------------------------------------


def format_pass(pass_: Pass) -> str:
    """`name{option=value}`, options at their default left out."""
    options = []
    for name in _options(type(pass_)):
        value = getattr(pass_, name)
        if value != _default(type(pass_), name):
            options.append(f"{_kebab(name)}={format_literal(value, bare=True)}")
    return pass_.name + (f"{{{','.join(options)}}}" if options else "")


def _parse_stage(tokens: Tokens) -> Stage:
    token = tokens.expect_kind("word", "a pass")
    entry = registry().find("passes", token.text)
    cls = _pass_class(entry)
    raw = parse_fields(tokens) if tokens.at("{") else {}
    owner = f"{entry.distribution} {entry.version}"
    try:
        return Stage(cls(**_coerce_options(tokens, cls, raw, entry)), owner)
    except (GraphoptError, TypeError, ValueError) as error:
        if isinstance(error, PluginError | IRError):
            raise
        raise PluginError(f"pass {entry.name} of {owner} refuses its options: {error}") from error


def _pass_class(entry: Entry) -> type[Pass]:
    cls = entry.load()
    if not isinstance(cls, type) or not issubclass(cls, Pass):
        raise PluginError(
            f"{entry.name!r} of {entry.distribution} is {cls!r}, not a Pass",
            hint=f"its manifest must name a subclass of graphopt.passbase.Pass ({entry.reference})",
        )
    return cls


def _coerce_options(
    tokens: Tokens, cls: type[Pass], raw: dict[str, tuple[Token, Raw]], entry: Entry
) -> dict[str, Any]:
    types = {_kebab(name): (name, hint) for name, hint in _options(cls).items()}
    out: dict[str, Any] = {}
    for option, (token, value) in raw.items():
        if option not in types:
            raise PluginError(
                f"pass {entry.name} of {entry.distribution} has no option {option!r}",
                hint=_nearest_option(option, types),
            )
        name, hint = types[option]
        try:
            out[name] = coerce(value, hint)
        except MismatchError as expected:
            tokens.fail(f"option {option} of pass {entry.name} must be {expected}", token)
    return out


def _nearest_option(option: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(option, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"its options are {', '.join(names)}" if names else "it has no options"


def _options(cls: type[Pass]) -> dict[str, Any]:
    """Field name → type; empty for a pass that is no dataclass."""
    if not dataclasses.is_dataclass(cls):
        return {}
    try:
        return dict(field_types(cls))
    except NameError as error:
        raise PluginError(
            f"the options of pass {cls.name} cannot be read: {error}",
            hint=f"import the types of its fields at run time in {cls.__module__}",
        ) from error


def _default(cls: type[Pass], name: str) -> object:
    (field,) = (f for f in dataclasses.fields(cls) if f.name == name)  # type: ignore[arg-type]
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _kebab(name: str) -> str:
    return name.replace("_", "-")
