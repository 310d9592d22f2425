"""Tokens of IR and pipeline text, each with the place it came from."""

from __future__ import annotations

import json
import re
from typing import NamedTuple, NoReturn

from graphopt.errors import ParseError

_TOKEN = re.compile(
    r"""
      (?P<space>(?:[ \t\r\n]+|\#[^\n]*)+)
    | (?P<value>%(?:[A-Za-z0-9_.]+|"(?:[^"\\\n]|\\.)*"))
    | (?P<number>-?(?:(?:inf|nan)(?![\w-])|[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?))
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)*)
    | (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<punct>->|\.\.|[{}\[\]()=,:@])
    """,
    re.VERBOSE,
)
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.]+")
PLAIN_WORD = re.compile(r"(?!(?:inf|nan)$)[A-Za-z_][A-Za-z0-9_]*(?:-[A-Za-z0-9_]+)*")


class Token(NamedTuple):
    """`kind` is "value", "number", "word", "string", "punct" or "end"."""

    kind: str
    text: str
    offset: int

    def __str__(self) -> str:
        return "the end of the text" if self.kind == "end" else repr(self.text)


class Tokens:
    """A cursor over the tokens of a text. Every complaint is a ParseError with line and column."""

    def __init__(self, text: str, pattern: re.Pattern[str] = _TOKEN) -> None:
        """`pattern` names a group per kind of token, and one called "space"."""
        self.text, self._pattern = text, pattern
        self._tokens = list(self._scan())
        self._at = 0

    def _scan(self) -> list[Token]:
        out, offset = [], 0
        for match in self._pattern.finditer(self.text):
            if match.start() != offset:
                self._fail_at(offset)
            if match.lastgroup != "space":
                out.append(Token(str(match.lastgroup), match.group(), offset))
            offset = match.end()
        if offset != len(self.text):
            self._fail_at(offset)
        return [*out, Token("end", "", offset)]

    def _fail_at(self, offset: int) -> NoReturn:
        token = Token("punct", self.text[offset], offset)
        if token.text == '"' or self.text.startswith('%"', offset):
            self.fail("this string has no closing quote", token, hint='end it with "')
        self.fail(f"unexpected character {token}", token)

    def fail(
        self, message: str, token: Token | None = None, *, hint: str | None = None
    ) -> NoReturn:
        """Raises: ParseError at `token` (default: the next one)."""
        offset = (token or self.peek).offset
        line = self.text.count("\n", 0, offset) + 1
        column = offset - self.text.rfind("\n", 0, offset)
        raise ParseError(message, line=line, column=column, hint=hint)

    @property
    def peek(self) -> Token:
        return self._tokens[self._at]

    def ahead(self, n: int) -> Token:
        """The token `n` places after the next one."""
        return self._tokens[min(self._at + n, len(self._tokens) - 1)]

    def next(self) -> Token:
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def at(self, text: str) -> bool:
        """Whether the next token is this word or punctuation."""
        token = self._tokens[self._at]
        return token.text == text and token.kind in ("word", "punct")

    def accept(self, text: str) -> Token | None:
        return self.next() if self.at(text) else None

    def expect(self, text: str, *, hint: str | None = None) -> Token:
        if not self.at(text):
            self.fail(f"expected {text!r}, found {self.peek}", hint=hint)
        return self.next()

    def expect_kind(self, kind: str, noun: str, *, hint: str | None = None) -> Token:
        if self.peek.kind != kind:
            self.fail(f"expected {noun}, found {self.peek}", hint=hint)
        return self.next()

    def expect_end(self) -> None:
        if self.peek.kind != "end":
            self.fail(f"expected the end of the text, found {self.peek}")

    def integer(self, noun: str) -> int:
        """A whole number. Raises: ParseError."""
        token = self.expect_kind("number", noun)
        number = self.number(token)
        if not isinstance(number, int):
            self.fail(f"expected {noun}, found {token}", token)
        return number

    def number(self, token: Token) -> int | float:
        """The value of a number token."""
        try:
            return int(token.text)
        except ValueError:
            if token.text.lstrip("-").isdigit():  # Python refuses to convert 4300 digits or more
                self.fail("this number has too many digits", token)
            return float(token.text)

    def string(self, token: Token) -> str:
        """The text between the quotes of a string token, or of a value's quoted name."""
        try:
            return str(json.loads(token.text.removeprefix("%")))
        except ValueError as error:
            self.fail(f"bad string: {error}", token, hint="escape as JSON does")

    def value_name(self, token: Token) -> str:
        return self.string(token) if token.text.startswith('%"') else token.text[1:]


def quote(text: str) -> str:
    """A string as tokens read it: JSON, escaped to ASCII only where a character does not print."""
    return json.dumps(text, ensure_ascii=not text.isprintable())
