"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from graphopt.target import PRECISIONS

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


def _targets(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    from graphopt.target import all_targets

    found, _ = all_targets()
    names = (f"{row.backend}:{name}" for _, name, row in found)
    return [CompletionItem(n) for n in names if n.startswith(given)]


def pass_names(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    """Completes the last pass of a pipeline."""
    return _names("passes", given)


def kernel_pass_names(
    ctx: click.Context, param: click.Parameter, given: str
) -> list[CompletionItem]:
    """Completes the last kernel pass of a pipeline."""
    return _names("kernel_passes", given)


def any_pass_name(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    """Completes the name of a graph or kernel pass."""
    return [*_names("passes", given), *_names("kernel_passes", given)]


def engine_names(ctx: click.Context, param: click.Parameter, given: str) -> list[CompletionItem]:
    """Completes the last engine of a race."""
    from graphopt.check.peers.engines import ENGINES

    before, comma, last = given.rpartition(",")
    return [CompletionItem(before + comma + e) for e in ENGINES if e.startswith(last)]


def _names(kind: str, given: str) -> list[CompletionItem]:
    from graphopt.plugins import registry

    before, comma, last = given.rpartition(",")
    names = (e.name for e in registry().of(kind))
    return [CompletionItem(before + comma + n) for n in names if n.startswith(last)]


def _level(ctx: click.Context, param: click.Parameter, text: str) -> str:
    return f"O{text}" if text.isdecimal() else text


source_argument = click.argument("source", metavar="SOURCE")
artifact_argument = click.argument(
    "folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False)
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
target_option = click.option(
    "--target", default="cpu", show_default=True, metavar="BACKEND[:ROW]",
    shell_complete=_targets, help="What the code is for; `graphopt targets` lists them.",
)  # fmt: skip
level_option = click.option(
    "--level", "-O", default="O2", show_default=True, metavar="LEVEL", callback=_level,
    help="Optimization level: O0, O1, O2.",
)  # fmt: skip
passes_option = click.option(
    "--passes", "-p", metavar="PIPELINE", shell_complete=pass_names,
    help="Graph passes that replace the level's, such as 'fold-batchnorm,fuse{max-inputs=8}'.",
)  # fmt: skip
without_option = click.option(
    "--without", metavar="PASS,...", default="", shell_complete=pass_names,
    help="Graph passes to leave out, such as choose-winograd,choose-strassen.",
)  # fmt: skip
kernel_passes_option = click.option(
    "--kernel-passes", metavar="PIPELINE", shell_complete=kernel_pass_names,
    help="Kernel passes that replace the level's, such as 'unroll-short-loops{limit=4}'.",
)  # fmt: skip
precision_option = click.option(
    "--precision", default="fp32", show_default=True, type=click.Choice(PRECISIONS),
    help="What an f32 model is computed in, on targets that have it.",
)  # fmt: skip
vendor_option = click.option(
    "--vendor", default="auto", show_default=True, metavar="auto|none|NAME,...",
    help="Whose libraries may be called, such as cublaslt,cudnn; auto: where it pays.",
)  # fmt: skip
threads_option = click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(min=1), metavar="N",
    help="Threads that share each kernel, the caller's own included.",
)  # fmt: skip
