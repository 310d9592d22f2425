"""Schedule spaces: named parameters with choices, and points that choose one of each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from graphopt.errors import GraphoptError, InternalError

Choice = int | str
"""A flag is 0 or 1: its text is as short as its value."""

_PAIR = re.compile(r"([a-z][a-z0-9_]*)=([A-Za-z0-9_.-]+)")


class Point(Mapping[str, Choice]):
    """One choice for every parameter of a space. `str(point)` is `rows=6 vectors=4`, sorted by
    name: equal points have equal texts, which `parse` reads back."""

    __slots__ = ("_choices",)

    def __init__(self, choices: Mapping[str, Choice]) -> None:
        self._choices = {name: choices[name] for name in sorted(choices)}

    @staticmethod
    def parse(text: str) -> Point:
        """Raises: GraphoptError for what `str` of no point gives."""
        choices: dict[str, Choice] = {}
        for part in text.split():
            found = _PAIR.fullmatch(part)
            if found is None or found.group(1) in choices:
                raise GraphoptError(f"{text!r} is not a schedule", hint="write rows=6 vectors=4")
            value = found.group(2)
            choices[found.group(1)] = int(value) if value.isdecimal() else value
        return Point(choices)

    def number(self, name: str) -> int:
        """A choice that is a number. Raises: InternalError when it is a word."""
        value = self._choices[name]
        if isinstance(value, str):
            raise InternalError(f"{name} of the point ({self}) is no number")
        return value

    def but(self, changes: Mapping[str, Choice]) -> Point:
        """The same with other, or more, choices."""
        return Point({**self._choices, **changes})

    def only(self, names: Iterable[str]) -> Point:
        """The choices for these parameters alone."""
        return Point({name: self._choices[name] for name in names})

    def __getitem__(self, name: str) -> Choice:
        return self._choices[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self._choices.items())

    def __repr__(self) -> str:
        return f"Point({self})"


Schedules = Mapping[str, Point]
"""The points that a lowering is to use, by region digest (`graphopt.ir.digest`). Regions that are
not in it get the default."""


@dataclass(frozen=True)
class Parameter:
    """Something to choose. Choices stand in their natural order: neighbours are alike."""

    name: str
    choices: tuple[Choice, ...]
    default: Choice


def _anything(point: Point) -> bool:
    return True


@dataclass(frozen=True)
class Space:
    """What may be chosen for a region, and what is when nobody says.

    `allows` tells which combinations there are: a tile that fits the registers, say, and for a
    parameter without effect its first choice alone. `likely` are points that the cost model thinks
    nearly as good as the default, best first: a search begins with them. `listed` gives every
    point, where that is quicker than to go through all combinations.
    """

    parameters: tuple[Parameter, ...] = ()
    allows: Callable[[Point], bool] = _anything
    likely: tuple[Point, ...] = ()
    listed: Callable[[], Iterable[Point]] | None = None

    def __post_init__(self) -> None:
        if self.default not in self:
            raise InternalError(f"the default ({self.default}) is not in its space")

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)

    @cached_property
    def default(self) -> Point:
        return Point({p.name: p.default for p in self.parameters})

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """Every point, in the order of the choices."""
        if self.listed is not None:
            return tuple(self.listed())
        return tuple(filter(self.allows, self._combinations()))

    def __contains__(self, point: object) -> bool:
        if not isinstance(point, Point) or set(point) != set(self.names):
            return False
        return all(point[p.name] in p.choices for p in self.parameters) and self.allows(point)

    def __len__(self) -> int:
        return len(self.points)

    def _combinations(self) -> Iterable[Point]:
        for choices in itertools.product(*(p.choices for p in self.parameters)):
            yield Point(dict(zip(self.names, choices, strict=True)))


NOTHING = Space()
"""The space of a region whose lowering leaves nothing open. Its only point is empty."""


def with_parameter(space: Space, more: Parameter) -> Space:
    """A space with one parameter more, whose choices go with every point; left out where there is
    nothing to choose."""
    if len(more.choices) == 1:
        return space
    return Space(
        (*space.parameters, more),
        lambda point: space.allows(point.only(space.names)),
        tuple(p.but({more.name: more.default}) for p in space.likely),
    )


def alternatives(name: str, spaces: Mapping[Choice, Space], default: Choice) -> Space:
    """One of several spaces; the parameter `name` says which, and those that the chosen one lacks
    stay at their first choice. The other spaces' defaults are the likeliest points."""
    choices: dict[str, dict[Choice, None]] = {name: dict.fromkeys(spaces)}
    for space in spaces.values():
        for p in space.parameters:
            choices.setdefault(p.name, {}).update(dict.fromkeys(p.choices))
    ordered = {
        n: tuple(sorted(c, key=lambda v: (isinstance(v, str), v))) for n, c in choices.items()
    }
    idle = Point({n: c[0] for n, c in ordered.items()})

    def whole(chosen: Choice, point: Point) -> Point:
        return idle.but({**point, name: chosen})

    def allows(point: Point) -> bool:
        space = spaces[point[name]]
        part = point.only(space.names)
        return part in space and whole(point[name], part) == point

    def listed() -> Iterable[Point]:
        return (whole(chosen, p) for chosen, space in spaces.items() for p in space.points)

    start = whole(default, spaces[default].default)
    others = [whole(c, s.default) for c, s in spaces.items() if c != default]
    return Space(
        tuple(Parameter(n, c, start[n]) for n, c in ordered.items()),
        allows,
        (*others, *(whole(default, p) for p in spaces[default].likely)),
        listed,
    )
