"""The walk over an exported ATen graph that builds the graph IR."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ConstantArgument,
    InputKind,
    OutputKind,
    TensorArgument,
)
from torch.utils import _pytree as pytree

from graphopt.errors import FrontendError, InternalError, IRError, UnsupportedError
from graphopt.frontend import recorded
from graphopt.frontend.aten import ATEN
from graphopt.frontend.aten.complex_numbers import COMPLEX, Complex
from graphopt.frontend.aten.fourier import FOURIER
from graphopt.frontend.builder import Builder, DataDependentError, UnsupportedFormError
from graphopt.frontend.dtypes import PARTS, as_numpy, find
from graphopt.frontend.missing import Missing
from graphopt.frontend.provenance import provenance
from graphopt.frontend.recorded import DATA_HINT
from graphopt.ir.graph import Graph, Loc, Value
from graphopt.ir.types import DType, TensorType
from graphopt.rewrite import Rewriter

_CONTROL_FLOW = ("cond", "while_loop", "map_impl", "scan", "associative_scan")
_INLINED = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}
"""Regions under torch.no_grad() or a disabled autocast: settings before the submodule."""

_PARTED = {**COMPLEX, **FOURIER}
"""Operators that take or give complex tensors."""
_DATA_DEPENDENT = (
    "aten._local_scalar_dense", "aten.item", "aten.nonzero", "aten.masked_select", "aten._unique",
    "aten.unique", "aten.nonzero_static", "aten.repeat_interleave.Tensor", "aten.bincount",
)  # fmt: skip


_CHECKS = ("aten._linalg_check_errors", "aten._assert", "aten._print")
_TOKEN = ()
"""In the place of what orders side effects: nobody reads it."""


class Importer:
    """Walks the graph once; unsupported operators are collected, not raised one by one."""

    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.missing = Missing()
        self.shared: dict[tuple[Any, ...], Value] = {}

    def run(self) -> Graph:
        module = self.program.graph_module
        nodes = [n for n in module.graph.nodes if n.op == "placeholder"]
        specs = list(zip(nodes, self.program.graph_signature.input_specs, strict=True))
        inputs = tuple(
            Value(recorded.input_type(n), name=n.name)
            for n, spec in specs
            if _is_tensor_input(spec)
        )
        rewriter = Rewriter(Graph(inputs, (), ()))
        self.builder = Builder(rewriter)
        adopted = iter(rewriter.inputs)
        arguments = [self._input(node, spec, adopted) for node, spec in specs]
        results = self._body(module, arguments)
        if self.missing:
            raise self.missing.error()
        rewriter.outputs, rewriter.output_names = self._outputs(module, results)
        return rewriter.freeze()

    # Inputs and outputs ------------------------------------------------------------------------

    def _input(self, node: fx.Node, spec: Any, adopted: Iterator[Value]) -> Any:
        if isinstance(spec.arg, ConstantArgument):
            return spec.arg.value
        if _is_tensor_input(spec):
            return next(adopted)
        if spec.kind is InputKind.TOKEN:
            return _TOKEN
        if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            return self._parameter(node, spec.target) if node.users else None
        raise UnsupportedError(
            f"input {node.name!r} is a {spec.kind.name.lower().replace('_', ' ')}, not a tensor",
            hint="pass tensors; numbers and None are fixed at export",
        )

    def _parameter(self, node: fx.Node, name: str) -> Value | Complex:
        held = self.program.state_dict
        tensor = held[name] if name in held else self.program.constants[name]
        if tensor.dtype in PARTS:
            return self._complex_constant(name, tensor)
        if find(tensor.dtype) is None:
            dtype = str(tensor.dtype).removeprefix("torch.")
            self.missing.note(f"{dtype} tensor {name}", "")
            return self._zeros(node)  # type: ignore[no-any-return]
        return self._constant(name, tensor)

    def _complex_constant(self, name: str, tensor: torch.Tensor) -> Complex:
        tensor = tensor.detach().resolve_conj()
        return Complex(
            self._constant(f"{name}.real", tensor.real), self._constant(f"{name}.imag", tensor.imag)
        )

    def _constant(self, name: str, tensor: torch.Tensor) -> Value:
        """One constant per memory: tied weights stay tied."""
        memory = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        key = memory if tensor.numel() else (name,)
        if key not in self.shared:
            loc = Loc(name.rpartition(".")[0])
            value = self.builder.rewriter.constant(as_numpy(tensor), name=name, loc=loc)
            value.name = name
            self.shared[key] = value
        return self.shared[key]

    def _outputs(
        self, module: fx.GraphModule, results: Sequence[Any]
    ) -> tuple[list[Value], tuple[str, ...]]:
        """User outputs in order and their names; None is no output."""
        (tail,) = (n for n in module.graph.nodes if n.op == "output")
        specs = self.program.graph_signature.output_specs
        users = [i for i, spec in enumerate(specs) if spec.kind is OutputKind.USER_OUTPUT]
        _refuse_mutations(self.program, [tail.args[0][i] for i in users])
        names = _output_names(self.program, len(users))
        pairs = [(self._output(results[i]), name) for i, name in zip(users, names, strict=True)]
        kept = [(value, name) for value, name in pairs if value is not None]
        return [v for v, _ in kept], tuple(n for _, n in kept)

    def _output(self, result: Any) -> Value | None:
        if result is None or isinstance(result, Value):
            return result
        if isinstance(result, (bool, int, float)):
            dtype = {bool: DType.BOOL, int: DType.I64, float: DType.F32}[type(result)]
            return self.builder.full(result, dtype)
        if isinstance(result, Complex):
            raise UnsupportedError(
                "an output is complex", hint="return torch.view_as_real of it, or its parts"
            )
        raise UnsupportedError(
            f"an output is {type(result).__name__}, not a tensor", hint="return tensors alone"
        )

    # The walk ----------------------------------------------------------------------------------

    def _body(self, module: fx.GraphModule, arguments: Sequence[Any]) -> Sequence[Any]:
        """Results of a graph module, in the order of its output."""
        env: dict[fx.Node, Any] = {}
        feed = iter(arguments)
        needed = _ancestors(n for n in module.graph.nodes if n.op == "output")
        for node in module.graph.nodes:
            if node.op == "placeholder":
                env[node] = next(feed)
            elif node.op == "get_attr":
                env[node] = self._attribute(module, str(node.target))
            elif node.op == "call_function" and node in needed:  # checks alone are not
                env[node] = self._call(node, env)
            elif node.op == "output":
                return _look_up(node.args[0], env)  # type: ignore[no-any-return]
        raise InternalError("an exported graph has no output")

    def _attribute(self, module: fx.GraphModule, target: str) -> Any:
        held: Any = module
        for part in target.split("."):
            held = getattr(held, part)
        if not isinstance(held, torch.Tensor):
            return held
        constant = self._complex_constant if held.dtype in PARTS else self._constant
        return constant(target, held)

    def _call(self, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
        args, kwargs = _look_up(node.args, env), _look_up(node.kwargs, env)
        target = node.target
        if isinstance(target, torch._ops.HigherOrderOperator):
            return self._higher_order(node, target.name(), args)
        if not isinstance(target, torch._ops.OpOverload):
            return self._getitem_or_number(node, args)
        self.builder.loc = provenance(node.meta)
        dtypes = [t.dtype for t in recorded.held(node)]
        parted = _is_complex((args, kwargs)) or any(d in PARTS for d in dtypes)
        unknown = [d for d in dtypes if not find(d) and d not in PARTS]
        if unknown or (parted and str(target) not in _PARTED):
            kind = str((unknown or [torch.complex64])[0]).removeprefix("torch.")
            return self._miss(node, f"{target} ({kind})")
        self.builder.types, self.builder.first = recorded.types(node), recorded.first(node)
        args = _positional(target, args, kwargs)
        try:
            if parted:
                result = _PARTED[str(target)](self.builder, *args, **kwargs)
            else:
                result = self._mapped(node, str(target), args, kwargs)
            _check(node, result, self.builder.types)
        except UnsupportedFormError as form:
            return self._miss(node, f"{target} ({form})")
        except DataDependentError as error:
            raise FrontendError(f"{error.message} ({self.builder.loc})", hint=DATA_HINT) from error
        except (IRError, InternalError) as error:
            if self.missing:  # operands are stand-ins, of another type than torch recorded
                return self._zeros(node)
            raise InternalError(f"importing {target} at {self.builder.loc}: {error}") from error
        return result

    def _mapped(self, node: fx.Node, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        mapping = ATEN.get(name)
        if mapping is not None:
            result = mapping(self.builder, *args, **kwargs)
            for value in result if isinstance(result, (tuple, list)) else (result,):
                if isinstance(value, Value) and value.producer is not None and not value.name:
                    value.name = node.name
            return result
        if name.startswith(_DATA_DEPENDENT):
            raise DataDependentError(f"{name} gives a value or shape that depends on tensor values")
        computed = any(isinstance(a, Value) for a in pytree.tree_leaves((args, kwargs)))
        if not computed and not _is_random(node.target):
            return self._evaluated(node, args, kwargs)
        return self._miss(node, name)

    def _evaluated(self, node: fx.Node, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """An operator without tensor operands (linspace, eye) is a constant, or a number."""
        target: Any = node.target
        result = target(*args, **{**kwargs, **({"device": "cpu"} if "device" in kwargs else {})})
        if not isinstance(result, torch.Tensor):
            return result
        return self.builder.constant(as_numpy(result), str(node.name))

    def _getitem_or_number(self, node: fx.Node, args: Sequence[Any]) -> Any:
        """Indexing of a tuple of results, or arithmetic on Python numbers."""
        target: Any = node.target
        if any(isinstance(a, Value) for a in args):
            return self._miss(node, f"Python function {getattr(target, '__name__', target)}")
        result = target(*args)
        if result is None and "val" in node.meta and node.meta["val"] is not None:
            return self._miss(node, f"{_producer(node)} (result {args[1]})")
        return result

    def _higher_order(self, node: fx.Node, name: str, args: Sequence[Any]) -> Any:
        if name == "with_effects":
            return self._effect(node, args[1])
        if name in _INLINED:
            position = next(i for i, a in enumerate(args) if isinstance(a, fx.GraphModule))
            return self._body(args[position], args[position + 1 :])
        if name in _CONTROL_FLOW:
            line = provenance(node.meta)
            raise FrontendError(
                f"torch.{name} at {line} is data-dependent control flow", hint=DATA_HINT
            )
        return self._miss(node, name)

    def _effect(self, node: fx.Node, target: Any) -> Any:
        """An operator with side effects, ordered by tokens; those that only check are left out."""
        return (_TOKEN,) if str(target).startswith(_CHECKS) else self._miss(node, str(target))

    # Errors ------------------------------------------------------------------------------------

    def _miss(self, node: fx.Node, what: str) -> Any:
        """Note an unsupported operator and go on with zeros in its place."""
        self.missing.note(what, provenance(node.meta).source, random=_is_random(node.target))
        return self._zeros(node)

    def _zeros(self, node: fx.Node) -> Any:
        """In the place of a node's results; f32 for a dtype that the IR does not have."""
        zeros = tuple(self._zero(t, node) for t in recorded.held(node))
        return zeros if isinstance(node.meta.get("val"), (tuple, list)) else (zeros or (None,))[0]

    def _zero(self, held: torch.Tensor, node: fx.Node) -> Value | Complex:
        dtype = PARTS.get(held.dtype) or find(held.dtype) or DType.F32
        zero = self.builder.full(0, dtype, recorded.shape(held, node))
        return Complex(zero, zero) if held.dtype in PARTS else zero


def _is_complex(tree: Any) -> bool:
    return any(isinstance(leaf, Complex) for leaf in pytree.tree_leaves(tree))


def _is_random(target: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(target, "tags", ())


def _producer(node: fx.Node) -> str:
    """The operator whose tuple of results a getitem reads."""
    source = node.args[0]
    return str(source.target) if isinstance(source, fx.Node) else str(node.target)


def _is_tensor_input(spec: Any) -> bool:
    return spec.kind is InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument)


def _look_up(tree: Any, env: dict[fx.Node, Any]) -> Any:
    return fx.node.map_aggregate(tree, lambda a: env[a] if isinstance(a, fx.Node) else a)


def _positional(
    target: torch._ops.OpOverload, args: Sequence[Any], kwargs: dict[str, Any]
) -> list[Any]:
    """Arguments in the order of the schema: those that may stand by position leave `kwargs`."""
    out = list(args)
    for i, argument in enumerate(target._schema.arguments):
        if argument.kwarg_only:
            break
        if i >= len(out):
            if not any(a.name in kwargs for a in target._schema.arguments[i:] if not a.kwarg_only):
                break
            out.append(kwargs.pop(argument.name, argument.default_value))
    return out


def _check(node: fx.Node, result: Any, types: Sequence[TensorType]) -> None:
    """Raises: InternalError when a mapping's results differ from what torch recorded."""
    values = result if isinstance(result, (tuple, list)) else (result,)
    for value, wanted in zip(values, types, strict=False):
        if isinstance(value, Value) and value.type.logical != wanted:
            raise InternalError(f"torch says {wanted}, the graph {value.type}")


def _ancestors(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """The nodes and all that they are computed from."""
    found: set[fx.Node] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(node.all_input_nodes)
    return found


def _refuse_mutations(program: ExportedProgram, outputs: Sequence[Any]) -> None:
    """Raises: UnsupportedError when the model writes a buffer or input that an output reads."""
    needed = _ancestors(n for n in outputs if isinstance(n, fx.Node))
    read = {n.name for n in needed if n.op == "placeholder"}
    by_target = {s.target: s.arg.name for s in program.graph_signature.input_specs if s.target}
    for spec in program.graph_signature.output_specs:
        if spec.kind is OutputKind.BUFFER_MUTATION and by_target.get(spec.target) in read:
            raise UnsupportedError(
                f"the model changes its buffer {spec.target!r} while it runs",
                hint="pass the state in as an input and return the new state",
            )
        if spec.kind is OutputKind.USER_INPUT_MUTATION:
            raise UnsupportedError(
                f"the model changes its input {spec.target!r} in place",
                hint="return the changed tensor instead",
            )


def _output_names(program: ExportedProgram, count: int) -> list[str]:
    """Keys of the output tree (`last_hidden_state`, `states.0`); none for plain tuples."""
    spec = program.call_spec.out_spec
    if spec is None or spec.num_leaves != count:
        return [""] * count
    tree = pytree.tree_unflatten(list(range(count)), spec)
    paths, _ = pytree.tree_flatten_with_path(tree)
    keyed = any(
        isinstance(k, (pytree.MappingKey, pytree.GetAttrKey)) for path, _ in paths for k in path
    )
    if not keyed:
        return ["output" if count == 1 else f"output{i}" for i in range(count)]
    return [".".join(_key(k) for k in path) or f"output{i}" for i, (path, _) in enumerate(paths)]


def _key(key: Any) -> str:
    for field in ("key", "name", "idx"):
        if hasattr(key, field):
            return str(getattr(key, field))
    return str(key)
