"""Which point of a space to try next: Optuna's tree-structured Parzen estimator, asked and told."""

from __future__ import annotations

import random
import warnings
from typing import Any

from graphopt.errors import GraphoptError
from graphopt.tune.space import Point, Space

_STARTUP = 8
"""Results from which on the estimator knows enough to be asked."""
_REPEATS = 30
"""How often it may suggest what there is a result of, or what the space does not allow."""


class Search:
    """The default comes first, then what the cost model thinks likely, then what results suggest.

    A point is given out once. The same space, seed and results give the same points.
    """

    def __init__(self, space: Space, *, seed: int = 0) -> None:
        optuna = _optuna()
        self.space, self._random = space, random.Random(seed)
        self._states, self._create_trial = optuna.trial.TrialState, optuna.trial.create_trial
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=_STARTUP, multivariate=True, constant_liar=True
            )
        self._study = optuna.create_study(sampler=sampler)
        self._distributions = {
            p.name: optuna.distributions.IntDistribution(0, len(p.choices) - 1)
            for p in space.parameters
        }
        self._queue = [space.default, *space.likely]
        self._given: set[Point] = set()
        self._costs: dict[Point, float | None] = {}
        self._suggestions: dict[Point, Any] = {}

    def ask(self, count: int = 1) -> list[Point]:
        """Up to `count` points not given out before; fewer when the space is exhausted."""
        out: list[Point] = []
        while len(out) < count and (point := self._next()) is not None:
            self._given.add(point)
            out.append(point)
        return out

    def tell(self, point: Point, cost: float | None) -> None:
        """What came of a point, asked for or not; None for one that failed."""
        self._given.add(point)
        self._costs[point] = cost
        state = self._states.PRUNED if cost is None else self._states.COMPLETE
        if point in self._suggestions:
            self._study.tell(self._suggestions.pop(point), cost, state=state)
            return
        params = {p.name: p.choices.index(point[p.name]) for p in self.space.parameters}
        self._study.add_trial(
            self._create_trial(
                params=params, distributions=self._distributions, value=cost, state=state
            )
        )

    def _next(self) -> Point | None:
        while self._queue:
            point = self._queue.pop(0)
            if point not in self._given:
                return point
        if len(self._given) >= len(self.space):
            return None
        return self._suggested() or self._any()

    def _suggested(self) -> Point | None:
        """The estimator's next; None when it keeps to what is known."""
        for _ in range(_REPEATS):
            trial = self._study.ask(self._distributions)
            point = Point({p.name: p.choices[trial.params[p.name]] for p in self.space.parameters})
            if point not in self._given and point in self.space:
                self._suggestions[point] = trial
                return point
            cost = self._costs.get(point)
            state = self._states.PRUNED if cost is None else self._states.COMPLETE
            self._study.tell(trial, cost, state=state)
        return None

    def _any(self) -> Point | None:
        left = [p for p in self.space.points if p not in self._given]
        return self._random.choice(left) if left else None


def _optuna() -> Any:
    """Raises: GraphoptError when it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise GraphoptError(
            "optuna is not installed, and tuning searches with it",
            hint="run `pip install 'graphopt[tune]'`",
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
