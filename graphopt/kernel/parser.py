"""Text to kernels; the grammar is in `grammar`. `parse_kernel(print_kernel(k)) == k`.

Everything wrong with a text is a ParseError with line and column. Types that do not fit together
are the verifier's matter: the text can say them.
"""

from __future__ import annotations

from graphopt.kernel.grammar import (
    ASSIGN,
    ASSIGN_WORDS,
    LOOPS,
    RESERVED,
    SCOPES,
    TOKEN,
)
from graphopt.kernel.ir import (
    INDEX,
    Alloc,
    Buffer,
    Expr,
    For,
    If,
    Kernel,
    Let,
    Prefetch,
    Scope,
    Stmt,
    Store,
    block,
)
from graphopt.kernel.parser_expressions import ExpressionParser, Names, filled
from graphopt.syntax.lexer import Token, Tokens

_MAX_DEPTH = 64  # of nested statements: a recursion must end before Python's


def parse_kernel(text: str) -> Kernel:
    """The kernel of a text. Raises: ParseError."""
    return _Parser(Tokens(text, TOKEN)).kernel()


class _Parser:
    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.names = Names()
        self.expressions = ExpressionParser(tokens, self.names)
        self.depth = 0

    def kernel(self) -> Kernel:
        t = self.tokens
        t.expect("kernel", hint="a text starts with `kernel name(`")
        name = self.expressions.name("a kernel name")
        params, outputs = self._params()
        body = self._braces()
        t.expect_end()
        return Kernel(name, params, outputs, body)

    # Buffers -----------------------------------------------------------------------------------

    def _params(self) -> tuple[tuple[Buffer, ...], tuple[str, ...]]:
        params: list[Buffer] = []
        outputs: list[str] = []
        self.tokens.expect("(")
        while not self.tokens.accept(")"):
            if params:
                self.tokens.expect(",", hint="separate parameters by commas, close with )")
            token = self.tokens.peek
            buffer = self._buffer(Scope.PARAM)
            if any(p.name == buffer.name for p in params):
                self.tokens.fail(f"there are two parameters {buffer.name!r}", token)
            params.append(buffer)
            if self.tokens.accept("output"):
                outputs.append(buffer.name)
        return tuple(params), tuple(outputs)

    def _buffer(self, scope: Scope | None = None) -> Buffer:
        """A declaration. `scope` is given for parameters, which do not state it."""
        t = self.tokens
        start = t.peek
        name = self.expressions.name("a buffer name")
        t.expect(":", hint="write name: dtype[extents]")
        dtype = self.expressions.dtype()
        shape = self._integers("an extent")
        if any(extent < 0 for extent in shape):
            t.fail(f"an extent of {name!r} is negative", start)
        strides = Buffer.dense(name, dtype, shape).strides
        if token := t.accept("strides"):
            strides = self._integers("a stride")
            self._one_per_axis(token, strides, shape)
        offset = self.expressions.integer("an offset") if t.accept("offset") else 0
        halo = self._halo(shape) if t.at("halo") else ()
        found = scope or self._scope()
        buffer = Buffer(name, dtype, shape, strides, found, offset, halo)
        self.names.buffers[name] = buffer
        return buffer

    def _integers(self, noun: str) -> tuple[int, ...]:
        out: list[int] = []
        self.tokens.expect("[")
        while not self.tokens.accept("]"):
            if out:
                self.tokens.expect(",")
            out.append(self.expressions.integer(noun))
        return tuple(out)

    def _halo(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        token = self.tokens.next()
        out: list[tuple[int, int]] = []
        self.tokens.expect("[")
        while not self.tokens.accept("]"):
            if out:
                self.tokens.expect(",")
            before = self.expressions.integer("elements before")
            self.tokens.expect(":", hint="write before:after for each axis")
            out.append((before, self.expressions.integer("elements after")))
        self._one_per_axis(token, tuple(out), shape)
        return tuple(out)

    def _one_per_axis(self, at: Token, given: tuple[object, ...], shape: tuple[int, ...]) -> None:
        if len(given) != len(shape):
            self.tokens.fail(f"{at.text} has {len(given)} entries for {len(shape)} axes", at)

    def _scope(self) -> Scope:
        token = self.tokens.expect_kind(
            "word", "a scope", hint=f"a local buffer is one of {', '.join(SCOPES)}"
        )
        if token.text not in SCOPES:
            self.tokens.fail(
                f"expected a scope, found {token}", token, hint=f"choose {', '.join(SCOPES)}"
            )
        return SCOPES[token.text]

    # Statements --------------------------------------------------------------------------------

    def _braces(self, var: str | None = None) -> Stmt:
        """`{ .. }`: names bound inside are forgotten after it."""
        t = self.tokens
        opening = t.expect("{")
        if self.depth >= _MAX_DEPTH:
            t.fail(f"statements are nested deeper than {_MAX_DEPTH}", opening)
        self.depth += 1
        with self.names.inner():
            if var is not None:
                self.names.types[var] = INDEX, 1
            body: list[Stmt] = []
            while not t.accept("}"):
                if t.peek.kind == "end":
                    t.fail("this { is never closed", opening, hint="end it with }")
                if t.peek.kind == "value":
                    self.expressions.abbreviation()
                else:
                    body.append(self._statement())
        self.depth -= 1
        return block(*body)

    def _statement(self) -> Stmt:
        t, token = self.tokens, self.tokens.peek
        if token.kind == "word" and token.text in LOOPS:
            return self._for()
        if t.accept("let"):
            name = self.expressions.name("a name")
            t.expect("=")
            value = self.expressions.parse()
            self.names.types[name] = value.dtype, value.lanes
            return Let(name, value)
        if t.accept("if"):
            return self._if()
        if t.accept("alloc"):
            return Alloc(self._buffer())
        if t.accept("prefetch"):
            place = self._place()
            return Prefetch(*place, level=2 if t.accept("l2") else 1)
        if token.kind not in ("word", "string") or token.text in RESERVED:
            hint = "write for, let, if, alloc, a[i] = .."
            t.fail(f"expected a statement, found {token}", hint=hint)
        return self._store()

    def _for(self) -> Stmt:
        t, e = self.tokens, self.expressions
        kind = LOOPS[t.next().text]
        var = e.name("a loop variable")
        t.expect("in", hint="write `for i in 0..extent {`")
        zero = t.peek
        if e.integer("0") != 0:
            t.fail("loops start at 0", zero, hint="add the start to the index instead")
        t.expect("..")
        extent = e.integer("an extent")
        return For(var, extent, self._braces(var), kind)

    def _if(self) -> Stmt:
        condition = self.expressions.parse()
        then = self._braces()
        otherwise = self._braces() if self.tokens.accept("else") else None
        return If(condition, then, otherwise)

    def _place(self) -> tuple[Buffer, tuple[Expr, ...]]:
        buffer = self.expressions.buffer()
        return buffer, self.expressions.index()

    def _store(self) -> Stmt:
        buffer, index = self._place()
        reduce = self._assignment()
        lanes = max((i.lanes for i in index), default=1)
        value = filled(self.expressions.parse(), lanes)
        return Store(buffer, index, value, reduce, bool(self.tokens.accept("nontemporal")))

    def _assignment(self) -> str:
        t = self.tokens
        token = t.next()
        if token.text in ASSIGN:
            return ASSIGN[token.text]
        if token.text not in ASSIGN_WORDS:
            known = ", ".join((*ASSIGN, *(f"{w}=" for w in ASSIGN_WORDS)))
            t.fail(f"expected an assignment, found {token}", token, hint=f"write one of {known}")
        t.expect("=")
        return token.text
