"""graphopt run: an artifact on arrays from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.console import show_json, show_table
from graphopt.cli.parameters import (
    artifact_argument,
    json_option,
    quiet_option,
    threads_option,
)

if TYPE_CHECKING:
    import numpy as np


@click.command()
@artifact_argument
@click.option(
    "--input", "-i", "inputs", multiple=True, metavar="[NAME=]FILE",
    help="An array in a .npy file, in the model's order or by name; or all of them in one .npz.",
)  # fmt: skip
@click.option(
    "--output", "-o", metavar="FILE.npz", type=click.Path(path_type=Path, dir_okay=False),
    help="Where the results go, by name.",
)  # fmt: skip
@threads_option
@json_option
@quiet_option
def command(
    folder: Path,
    inputs: tuple[str, ...],
    output: Path | None,
    threads: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run the artifact in DIR once and show its results."""
    from graphopt.artifact.loader import load
    from graphopt.cli.arrays import read_inputs, write_arrays

    with load(folder, threads) as model:
        given = model.placed(read_inputs(inputs, model.inputs))
        results = model.fetched(model.run(given))
    if output is not None:
        write_arrays(results, output)
    if as_json:
        show_json({"outputs": _facts(results), "file": None if output is None else str(output)})
    elif not quiet:
        _show(results, output)


def _show(results: Mapping[str, np.ndarray], output: Path | None) -> None:
    facts = _facts(results)
    show_table(
        ("output", "type", "min", "max", "mean", "first values"),
        ([f["name"], f["type"], f["min"], f["max"], f["mean"], _short(f["first"])] for f in facts),
        numbers=("min", "max", "mean"),
    )
    if output is not None:
        click.echo(f"written to {output}")


def _short(values: Sequence[Any]) -> str:
    return " ".join(f"{v:.4g}" for v in values)


def _facts(results: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    import numpy as np

    from graphopt.artifact.loader import type_of

    out: list[dict[str, Any]] = []
    for name, array in results.items():
        wide = array.astype(np.float64)
        low, high, mean = (
            (float(f"{f(wide):.6g}") for f in (np.min, np.max, np.mean))
            if array.size
            else (None, None, None)
        )
        first = [float(f"{v:.6g}") for v in wide.ravel()[:4]]
        out.append(
            {"name": name, "type": type_of(array), "min": low, "max": high, "mean": mean,
             "first": first}
        )  # fmt: skip
    return out
