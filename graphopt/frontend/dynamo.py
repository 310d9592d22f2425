"""`torch.compile(model, backend="graphopt")`: every graph that dynamo finds becomes a program.

Dynamo hands over a graph whose parameters are inputs, and may leave sizes open. A program is made
at the first call with each set of sizes, with the parameters it was called with as its weights;
where a parameter has been written or replaced since, another one is made.
"""

from __future__ import annotations

import dataclasses
import difflib
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.fx.traceback
from torch import fx

from graphopt.errors import FrontendError, GraphoptError
from graphopt.frontend.torch_export import trace

if TYPE_CHECKING:
    from graphopt.artifact.loader import Model

MAX_PROGRAMS = 8
"""Of one graph, for different sizes or weights; the one not used for longest goes."""

Outputs = tuple[Any, ...]


class FallbackWarning(UserWarning):
    """A graph runs in eager, and why."""


@dataclass(frozen=True)
class BackendOptions:
    """`torch.compile(model, backend="graphopt", options={...})`.

    target, level, passes: as `graphopt.compile` takes them. threads: 0 for as many as torch has.
    fallback: run in eager, with a FallbackWarning, what cannot be compiled; else raise.
    """

    target: str = "cpu"
    level: str = "O2"
    passes: str | None = None
    threads: int = 0
    fallback: bool = True

    @staticmethod
    def parse(options: Mapping[str, Any]) -> BackendOptions:
        """Raises: FrontendError for an option there is not."""
        known = [f.name for f in dataclasses.fields(BackendOptions)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                raise FrontendError(
                    f"backend graphopt has no option {name!r}",
                    hint=f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}",
                )
        return BackendOptions(**options)


def backend(
    module: fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
) -> Callable[..., Outputs]:
    """A function that does what `module` does. torch finds it by its entry point.

    Raises: FrontendError for a wrong option.
    """
    return _Graph(module, example_inputs, BackendOptions.parse(options or {}))


class _Graph:
    """One graph of dynamo's and the programs made of it."""

    def __init__(
        self, module: fx.GraphModule, example_inputs: Sequence[Any], options: BackendOptions
    ) -> None:
        self.module, self.options = module, options
        nodes = [n for n in module.graph.nodes if n.op == "placeholder"]
        self.fixed = frozenset(i for i, n in enumerate(nodes) if _is_fixed(n))
        self.programs: OrderedDict[tuple[Any, ...], _Program] = OrderedDict()
        self.eager = False
        reason = _refusal(example_inputs)
        if reason is not None:
            self._fall_back(reason)

    def __call__(self, *arguments: Any) -> Outputs:
        if self.eager:
            return self.module(*arguments)  # type: ignore[no-any-return]
        key = tuple(_identity(a) if i in self.fixed else _form(a) for i, a in enumerate(arguments))
        program = self.programs.get(key)
        if program is None:
            try:
                program = _Program(self.module, arguments, self.fixed, self.options)
            except GraphoptError as error:
                self._fall_back(error)
                return self(*arguments)
            self.programs[key] = program
            if len(self.programs) > MAX_PROGRAMS:
                self.programs.popitem(last=False)
        self.programs.move_to_end(key)
        return program(arguments)

    def _fall_back(self, error: GraphoptError) -> None:
        if not self.options.fallback:
            raise error
        self.eager = True
        warnings.warn(f"graphopt runs a graph in eager: {error}", FallbackWarning, stacklevel=2)


class _Program:
    """A graph compiled for the sizes, numbers and weights of one call."""

    def __init__(
        self,
        module: fx.GraphModule,
        arguments: Sequence[Any],
        fixed: frozenset[int],
        options: BackendOptions,
    ) -> None:
        from graphopt.driver import compile

        bound = _Bound(module, arguments, fixed)
        self.free = bound.free
        # Held, so that no others get their memory, and would be taken for them.
        self.weights = [arguments[i].detach() for i in fixed]
        inputs = tuple(arguments[i].detach() for i in self.free)
        # A graph, not a module: a module's artifact would keep these inputs, which are the user's.
        self.model: Model = compile(
            trace(bound, inputs), target=options.target, level=options.level,
            passes=options.passes, threads=options.threads or torch.get_num_threads(),
        )  # fmt: skip
        self.outputs = bound.found.outputs

    def __call__(self, arguments: Sequence[Any]) -> Outputs:
        results = self.model(*(arguments[i] for i in self.free))
        tensors = iter(results if isinstance(results, tuple) else (results,))
        return tuple(torch.as_tensor(next(tensors)) if o is _TENSOR else o for o in self.outputs)


_TENSOR = object()


@dataclass
class _Found:
    """Of each output: _TENSOR, or the number or None itself. Known once the graph has run.

    An object of its own: torch.export takes back what a module sets on itself while it is traced.
    """

    outputs: Outputs = ()


class _Bound(torch.nn.Module):  # type: ignore[misc]
    """A graph with everything but its free tensors bound. Its results are the graph's tensors."""

    def __init__(
        self, module: fx.GraphModule, arguments: Sequence[Any], fixed: frozenset[int]
    ) -> None:
        super().__init__()
        self.graph_module = module
        self.free = [
            i for i, a in enumerate(arguments) if isinstance(a, torch.Tensor) and i not in fixed
        ]
        self.names: dict[int, str] = {}
        self.numbers = {i: a for i, a in enumerate(arguments) if not isinstance(a, torch.Tensor)}
        for i, node in enumerate(n for n in module.graph.nodes if n.op == "placeholder"):
            if i in fixed:
                self.names[i] = str(node.target)
                self.register_buffer(self.names[i], arguments[i].detach())
        self.found = _Found()

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = dict(zip(self.free, tensors, strict=True))
        given.update(self.numbers)
        given.update({i: getattr(self, name) for i, name in self.names.items()})
        # Interpreted, not called: so that traced nodes keep the modules and lines of the graph's.
        with fx.traceback.preserve_node_meta():
            results = fx.Interpreter(self.graph_module).run(*(given[i] for i in sorted(given)))
        self.found.outputs = tuple(_TENSOR if isinstance(r, torch.Tensor) else r for r in results)
        return tuple(r for r in results if isinstance(r, torch.Tensor))


def _is_fixed(node: fx.Node) -> bool:
    """A parameter, buffer or tensor attribute of a module, which dynamo passes as an input."""
    return bool((node.meta.get("tensor_dict") or {}).get("_dynamo_static_input_type"))


def _refusal(example_inputs: Sequence[Any]) -> FrontendError | None:
    tensors = [t for t in example_inputs if isinstance(t, torch.Tensor)]
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return FrontendError("gradients would be lost", hint="call the model under torch.no_grad()")
    away = sorted({str(t.device) for t in tensors if t.device.type != "cpu"})
    if away:
        return FrontendError(f"tensors are on {', '.join(away)}", hint="move the model to the CPU")
    return None


def _identity(tensor: torch.Tensor) -> tuple[int, int]:
    """Changes when the tensor is replaced, given other memory, or written in place."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _form(argument: Any) -> object:
    """What a program is specific to: a tensor's dtype and shape, a number itself."""
    if isinstance(argument, torch.Tensor):
        return argument.dtype, tuple(argument.shape)
    return argument
