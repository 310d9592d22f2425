"""graphopt opt: graph passes on a model or on IR text."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.console import show_json
from graphopt.cli.parameters import (
    json_option,
    kernel_passes_option,
    passes_option,
    target_option,
)
from graphopt.cli.progress import stages

if TYPE_CHECKING:
    from graphopt.ir.graph import Graph
    from graphopt.kernel.ir import Kernel
    from graphopt.kernel.passbase import KernelPass
    from graphopt.kernel.pipeline import KernelPipeline
    from graphopt.passbase import Pass
    from graphopt.pipeline import Timing
    from graphopt.target import Backend, Target

    Steps = list[tuple[str, Kernel]]


@click.command()
@click.argument("file", metavar="FILE")
@passes_option
@kernel_passes_option
@target_option
@click.option(
    "--print-after-all", is_flag=True, help="Print the graph after every pass, to stderr."
)
@click.option("--verify-each", is_flag=True, help="Hold every pass to its numerics. Slow.")
@click.option(
    "--pass-timeout", type=click.FloatRange(min=0, min_open=True), default=300.0,
    show_default=True, metavar="SECONDS", help="Stop a pass that takes longer.",
)  # fmt: skip
@click.option(
    "--out", "-o", metavar="FILE.go.txt", type=click.Path(path_type=Path, dir_okay=False),
    help="Write the result here, large constants beside it in .safetensors, and print nothing.",
)  # fmt: skip
@click.option(
    "--kernels", is_flag=True,
    help="Print each region's kernel after every schedule step and kernel pass, not the graph. "
    "--print-after-all prints them, too, when all that computes is in regions.",
)  # fmt: skip
@json_option
def command(
    file: str,
    passes: str | None,
    kernel_passes: str | None,
    target: str,
    print_after_all: bool,
    verify_each: bool,
    pass_timeout: float,
    out: Path | None,
    kernels: bool,
    as_json: bool,
) -> None:
    """Run graph passes on FILE and print the result.

    FILE is IR text (`-`: standard input) with its weights beside it in .safetensors, or any SOURCE.
    Without --passes it is printed as it is.
    """
    from graphopt.check.gate import NumericsGate
    from graphopt.kernel.pipeline import KernelPipeline
    from graphopt.passbase import PassContext
    from graphopt.pipeline import Pipeline
    from graphopt.target import resolve

    pipeline = Pipeline.parse(passes or "")
    then = KernelPipeline.parse(kernel_passes or "")
    backend, row = resolve(target)
    timings: list[Timing] = []
    with stages() as progress:
        progress("read")
        graph = _read(file)
        progress("passes")
        result = pipeline.run(
            graph,
            PassContext(target=row),
            verify_each=verify_each,
            gate=NumericsGate() if verify_each else None,
            timings=timings,
            print_after=_print_after if print_after_all else None,
            announce=lambda name: progress(f"passes {name}"),
            pass_timeout_s=pass_timeout,
        )
    if (kernels and not as_json) or (print_after_all and _is_fused(result)):
        _print_kernels(result, backend, row, then, err=as_json or not kernels)
    if out is not None:
        _write(result, out)
    if as_json:
        regions = [*_kernels(result, backend, row, then)] if kernels else []
        show_json(_as_json(result, timings, regions))
    elif out is None and not kernels:
        _print(result)


def _read(file: str) -> Graph:
    """Raises: ParseError, IRError, FrontendError."""
    from graphopt.driver import read_model
    from graphopt.ir.store import load
    from graphopt.ir.text import parse

    if file == "-":
        return parse(sys.stdin.read())
    path = Path(file)
    if path.is_file() and path.suffix != ".pt2":
        return load(path)
    graph, _ = read_model(file)
    return graph


def _print(graph: Graph) -> None:
    from graphopt.ir.text import print_graph

    click.echo(print_graph(graph), nl=False)


def _print_after(pass_: Pass, graph: Graph) -> None:
    from graphopt.ir.text import print_graph

    click.echo(f"# after {pass_.name}\n{print_graph(graph)}", err=True)


def _write(graph: Graph, path: Path) -> None:
    from graphopt.errors import GraphoptError
    from graphopt.ir.store import save

    try:
        save(graph, path)
    except OSError as error:
        raise GraphoptError(
            f"{path} cannot be written: {error.strerror}", hint="choose another file with --out"
        ) from error


def _is_fused(graph: Graph) -> bool:
    """Whether all that computes is in regions."""
    from graphopt.ir.views import is_view

    rest = [n for n in graph.nodes if n.body is None]
    return len(rest) < len(graph.nodes) and all(n.op.kind == "source" or is_view(n) for n in rest)


def _as_json(
    graph: Graph, timings: list[Timing], regions: list[tuple[str, Steps]]
) -> dict[str, Any]:
    from graphopt.ir.text import print_graph
    from graphopt.kernel.text import print_kernel

    return {
        "graph": print_graph(graph),
        "passes": list(map(dataclasses.asdict, timings)),
        "kernels": [
            {
                "region": region,
                "steps": [{"step": name, "kernel": print_kernel(k)} for name, k in steps],
            }
            for region, steps in regions
        ],
    }


def _print_kernels(
    graph: Graph, backend: Backend, target: Target, passes: KernelPipeline, *, err: bool
) -> None:
    from graphopt.kernel.text import print_kernel

    for region, steps in _kernels(graph, backend, target, passes):
        click.echo(f"# {region}", err=err)
        for step, kernel in steps:
            click.echo(f"# {step}\n{print_kernel(kernel)}", err=err)


def _kernels(
    graph: Graph, backend: Backend, target: Target, passes: KernelPipeline
) -> Iterator[tuple[str, Steps]]:
    """Every region's kernel, as each schedule step and each kernel pass leaves it."""
    from graphopt.ir.verify import describe_node
    from graphopt.kernel.passbase import KernelContext

    ctx = KernelContext(target=target)
    for node in graph.nodes:
        if node.body is None:
            continue
        steps = list(backend.lower_node(node, graph, target))
        after: Steps = []

        def keep(pass_: KernelPass, kernel: Kernel, to: Steps = after) -> None:
            to.append((f"after {pass_.name}", kernel))

        passes.run(steps[-1][1], ctx, print_after=keep)
        yield describe_node(node), [*steps, *after]
