"""Text to graphs. The grammar, newlines being plain spaces and `#` starting a comment:

    graph     = "graph" "{" statements "}" | statements
    statement = VALUE "=" "input" ":" type
              | VALUE, .. "=" op [VALUE, ..] [attributes] [":" type, ..] [loc] ["{" statements "}"]
              | "state" VALUE "->" VALUE ["[" output position "]"]
              | "return" [VALUE, ..] ["{" "names" "=" [STRING, ..] "}"]
    type      = dtype "[" dim, .. "]" ["@" "[" layout axis, .. "]"] ["at" byte offset]
    dim       = NUMBER | name ":" low ".." high
    axis      = NUMBER [":" halo before ":" halo after] | NUMBER "%" block

Types may be left out wherever inference gives them, that is after everything but inputs and
constants without data.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.errors import IRError
from graphopt.ir.equal import same_array
from graphopt.ir.graph import NOWHERE, Graph, Loc, Node, State, Value
from graphopt.ir.infer import infer
from graphopt.ir.text.arrays import parse_array
from graphopt.ir.text.attributes import parse_attributes
from graphopt.ir.text.types import parse_offset, parse_type
from graphopt.ir.types import TensorType
from graphopt.ops import CONSTANT, OPS, ConstantAttrs
from graphopt.ops.base import Attrs, OpDef
from graphopt.syntax.lexer import Token, Tokens
from graphopt.syntax.literals import Raw, parse_fields

_MAX_BODIES = 8  # regions nest one deep; the limit keeps a hostile text from exhausting the stack

Fill = Callable[[str, TensorType], np.ndarray]
"""Makes the array of a constant that the text names and nobody gave: (key, type) → array."""


def parse(
    text: str, constants: Mapping[str, np.ndarray] | None = None, *, fill: Fill | None = None
) -> Graph:
    """A graph from its text and the arrays it names.

    `constants`: arrays by key, for constants not written in the text. `fill` makes those that are
    missing; without it they are an error.
    Raises: ParseError, with line and column.
    """
    tokens = Tokens(text)
    source = _Source(dict(constants or {}), fill)
    wrapped = tokens.at("graph") and tokens.ahead(1).text == "{"
    if wrapped:
        tokens.next()
        tokens.next()
    graph = _Body(tokens, source, depth=0).parse()
    if wrapped:
        tokens.expect("}", hint="nothing may follow return")
    tokens.expect_end()
    return graph


@dataclass
class _Source:
    """Where constants come from. All bodies of a text share one name space of keys."""

    given: dict[str, np.ndarray]
    fill: Fill | None


@dataclass
class _Results:
    """The part of a node after its attributes, or its absence."""

    types: tuple[TensorType, ...] | None
    offsets: tuple[int | None, ...]
    loc: Loc


class _Body:
    """Parses the statements between one pair of braces; values are visible in there alone."""

    def __init__(self, tokens: Tokens, source: _Source, depth: int) -> None:
        self.tokens, self.source, self.depth = tokens, source, depth
        self.values: dict[str, Value] = {}
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.states: list[tuple[Token, Value, Token, Value, int | None]] = []

    def parse(self) -> Graph:
        tokens = self.tokens
        while not tokens.at("return"):
            if tokens.peek.kind == "value":
                self._definition()
            elif tokens.at("state"):
                self._state()
            else:
                tokens.fail(
                    f"expected a statement, found {tokens.peek}",
                    hint="a statement is `%name = op ..`, `state ..` or, last, `return ..`",
                )
        tokens.next()
        outputs = self._operands()
        names = self._output_names(len(outputs))
        states = tuple(self._resolve_state(outputs, *s) for s in self.states)
        return Graph(tuple(self.inputs), tuple(self.nodes), outputs, self.constants, states, names)

    # Statements ----------------------------------------------------------------------------------

    def _definition(self) -> None:
        names = self._result_names()
        self.tokens.expect("=")
        op = self.tokens.expect_kind("word", "an op")
        if op.text == "input":
            self._input(names, op)
        else:
            self._node(names, op)

    def _result_names(self) -> list[Token]:
        names = [self.tokens.expect_kind("value", "a %value")]
        while self.tokens.accept(","):
            names.append(self.tokens.expect_kind("value", "a %value"))
        return names

    def _input(self, names: Sequence[Token], op: Token) -> None:
        if len(names) != 1:
            self.tokens.fail("an input defines one value", op)
        self.tokens.expect(":", hint="an input states its type: `%x = input : f32[1,3]`")
        value = Value(parse_type(self.tokens))
        value.offset = parse_offset(self.tokens)
        self.inputs.append(value)
        self._define(names[0], value)

    def _node(self, names: Sequence[Token], token: Token) -> None:
        op = self._op(token)
        operands = self._operands()
        raw = parse_fields(self.tokens) if self._at_attributes() else {}
        data = raw.pop("value", None) if op is CONSTANT else None
        attrs = parse_attributes(self.tokens, op, raw, token)
        stated = self._stated()
        body = self._body(token)
        if isinstance(attrs, ConstantAttrs):
            types: tuple[TensorType, ...] = self._constant(attrs.key, data, stated, token)
        else:
            types = self._inferred(op, operands, attrs, body, stated, token)
        if len(names) != len(types):
            self.tokens.fail(f"{op.name} has {len(types)} result(s), not {len(names)}", names[0])
        node = Node(op, operands, attrs, types, loc=stated.loc, body=body)
        self.nodes.append(node)
        offsets = stated.offsets or (None,) * len(types)
        for name, value, offset in zip(names, node.results, offsets, strict=True):
            value.offset = offset
            self._define(name, value)

    def _op(self, token: Token) -> OpDef:
        op = OPS.get(token.text)
        if op is None:
            hint = _nearest(token.text, OPS, "") or "`graphopt ops` lists them"
            self.tokens.fail(f"there is no op {token.text!r}", token, hint=hint)
        return op

    def _operands(self) -> tuple[Value, ...]:
        """`%a, %b`: empty where the next token is no value, or where it starts a new statement."""
        if self.tokens.peek.kind != "value" or self._starts_statement():
            return ()
        out = [self._use()]
        while self.tokens.accept(","):
            out.append(self._use())
        return tuple(out)

    def _starts_statement(self) -> bool:
        """Whether `%a [, %b ..] =` lies ahead: for ops without operands on the line before."""
        n = 0
        while self.tokens.ahead(n).kind == "value" and self.tokens.ahead(n + 1).text == ",":
            n += 2
        return self.tokens.ahead(n).kind == "value" and self.tokens.ahead(n + 1).text == "="

    def _at_attributes(self) -> bool:
        """`{` opens attributes before `name =` and `}`, else a body."""
        if not self.tokens.at("{"):
            return False
        inside = self.tokens.ahead(1)
        return inside.text == "}" or (inside.kind == "word" and self.tokens.ahead(2).text == "=")

    def _stated(self) -> _Results:
        types: list[TensorType] = []
        offsets: list[int | None] = []
        if self.tokens.accept(":"):
            while not types or self.tokens.accept(","):
                types.append(parse_type(self.tokens))
                offsets.append(parse_offset(self.tokens))
        return _Results(tuple(types) if types else None, tuple(offsets), self._loc())

    def _loc(self) -> Loc:
        if not self.tokens.accept("loc"):
            return NOWHERE
        self.tokens.expect("(")
        module = self.tokens.string(self.tokens.expect_kind("string", "a module path in quotes"))
        self.tokens.expect(",")
        source = self.tokens.string(self.tokens.expect_kind("string", "`file:line` in quotes"))
        self.tokens.expect(")")
        return Loc(module, source)

    def _body(self, token: Token) -> Graph | None:
        has_body = self.tokens.at("{")
        if has_body != (token.text == "fused"):
            want = "needs a body in braces" if not has_body else "takes no body"
            self.tokens.fail(f"{token.text} {want}")
        if not has_body:
            return None
        if self.depth >= _MAX_BODIES:
            self.tokens.fail(f"bodies are nested deeper than {_MAX_BODIES}")
        self.tokens.next()
        body = _Body(self.tokens, self.source, self.depth + 1).parse()
        self.tokens.expect("}", hint="nothing may follow return")
        return body

    def _state(self) -> None:
        self.tokens.next()
        before = self.tokens.expect_kind("value", "a %value")
        source = self._use(before)
        self.tokens.expect("->")
        after = self.tokens.expect_kind("value", "a %value")
        position = None
        if self.tokens.accept("["):
            position = self.tokens.integer("the position of an output")
            self.tokens.expect("]")
        self.states.append((before, source, after, self._use(after), position))

    # Meaning -------------------------------------------------------------------------------------

    def _use(self, token: Token | None = None) -> Value:
        token = token or self.tokens.expect_kind("value", "a %value")
        name = self.tokens.value_name(token)
        value = self.values.get(name)
        if value is None:
            hint = _nearest(name, self.values, "%") or "define a value before it is used"
            self.tokens.fail(f"there is no value %{name} here", token, hint=hint)
        return value

    def _define(self, token: Token, value: Value) -> None:
        value.name = self.tokens.value_name(token)
        if value.name in self.values:
            hint = "every value is defined once; choose another name"
            self.tokens.fail(f"%{value.name} is already defined", token, hint=hint)
        self.values[value.name] = value

    def _constant(
        self, key: str, data: tuple[Token, Raw] | None, stated: _Results, token: Token
    ) -> tuple[TensorType]:
        """The type of a constant; its array goes to `self.constants`."""
        if stated.types is not None and len(stated.types) != 1:
            self.tokens.fail("a constant has one type", token)
        type_ = stated.types[0] if stated.types else None
        if data is not None:
            if type_ is None:
                self.tokens.fail("a constant with a value needs its type", token, hint=": f32[..]")
            self._keep(key, parse_array(self.tokens, *data, type_), data[0])
        elif key not in self.source.given:
            if self.source.fill is None or type_ is None:
                hint = "give its array to parse, or write it: value=[..] : type"
                self.tokens.fail(f"constant {key!r} has no data", token, hint=hint)
            self._keep(key, self.source.fill(key, type_), token)
        array = self.source.given[key]
        self.constants[key] = array
        found = TensorType.of(array)
        if type_ is not None and type_.logical != found:
            self.tokens.fail(f"constant {key!r} is {found}, not {type_}", token)
        return (type_ or found,)

    def _keep(self, key: str, array: np.ndarray, token: Token) -> None:
        other = self.source.given.setdefault(key, array)
        if not same_array(other, array):
            self.tokens.fail(f"constant {key!r} already has another value", token)

    def _inferred(
        self, op: OpDef, operands: Sequence[Value], attrs: Attrs, body: Graph | None,
        stated: _Results, token: Token,
    ) -> tuple[TensorType, ...]:  # fmt: skip
        """The stated types, held to inference; else the inferred ones."""
        if body is not None:
            types = tuple(v.type for v in body.outputs)
        else:
            try:
                types = infer(op, [o.type for o in operands], attrs)
            except IRError as error:
                self.tokens.fail(error.message, token, hint=error.hint)
        if stated.types is None:
            return types
        if tuple(t.logical for t in stated.types) != tuple(t.logical for t in types):
            wanted, given = ", ".join(map(str, types)), ", ".join(map(str, stated.types))
            hint = "types may be left out where they can be inferred"
            self.tokens.fail(f"{op.name} gives {wanted}, not {given}", token, hint=hint)
        return stated.types

    def _output_names(self, count: int) -> tuple[str, ...]:
        if not self.tokens.at("{"):
            return ()
        start = self.tokens.peek
        raw = parse_fields(self.tokens)
        key, names = raw.get("names", (start, None))
        if set(raw) != {"names"} or not isinstance(names, list):
            self.tokens.fail("return takes {names=[..]} alone", start)
        if len(names) != count or not all(isinstance(n, str) for n in names):
            self.tokens.fail(f"names must be {count} strings, one per output", key)
        return tuple(str(n) for n in names)

    def _resolve_state(
        self, outputs: tuple[Value, ...], before: Token, source: Value, after: Token, value: Value,
        position: int | None,
    ) -> State:  # fmt: skip
        if source not in self.inputs:
            self.tokens.fail(f"state {before.text} is not an input", before)
        if value not in outputs:
            self.tokens.fail(f"state {after.text} is not returned", after)
        index = outputs.index(value) if position is None else position
        if not 0 <= index < len(outputs) or outputs[index] is not value:
            self.tokens.fail(f"output {index} is not {after.text}", after)
        return State(self.inputs.index(source), index)


def _nearest(name: str, known: Iterable[str], prefix: str) -> str | None:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {prefix}{near[0]}?" if near else None
