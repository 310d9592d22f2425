"""graphopt profile: a trace of an artifact's runs, and a picture of its kernels' speed."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import click

from graphopt.cli.console import show_facts, show_json
from graphopt.cli.parameters import artifact_argument, json_option, threads_option
from graphopt.units import format_seconds

TRACE, ROOFLINE = "trace.json", "roofline.svg"


@click.command()
@artifact_argument
@click.option(
    "--out", "-o", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
    help="Where to write trace.json and roofline.svg.  [default: ARTIFACT-profile beside it]",
)  # fmt: skip
@click.option(
    "--runs", "-n", default=5, show_default=True, type=click.IntRange(min=1), metavar="N",
    help="How many runs the trace has.",
)  # fmt: skip
@click.option("--no-picture", is_flag=True, help="Write the trace alone; needs no matplotlib.")
@threads_option
@json_option
def command(
    folder: Path, out: Path | None, runs: int, no_picture: bool, threads: int, as_json: bool
) -> None:
    """Run the artifact in DIR on its golden inputs and write where the time goes.

    trace.json opens in Perfetto (ui.perfetto.dev) and in chrome://tracing: every kernel call with
    the modules and source lines it computes. roofline.svg shows each call's speed beside what one
    thread of this machine can do at most.
    """
    from graphopt.artifact.golden import sample_inputs
    from graphopt.artifact.loader import load
    from graphopt.report.calls import timed_calls
    from graphopt.report.roofline import draw_roofline
    from graphopt.report.trace import trace
    from graphopt.target import resolve

    with load(folder, threads) as model:
        manifest = model.manifest
        inputs = model.placed(sample_inputs(folder, manifest))
        model.profile(**inputs)
        profiles = [[c.nanoseconds for c in model.profile(**inputs)] for _ in range(runs)]
    limits = resolve(manifest.target.backend)[0].limits()
    target = f"{manifest.target.backend}:{manifest.target.name}"
    out = out or folder.with_name(f"{folder.name}-profile")
    out.mkdir(parents=True, exist_ok=True)
    timed = [timed_calls(manifest, times, limits) for times in profiles]
    (out / TRACE).write_text(json.dumps(trace(folder.name, target, timed)), encoding="utf-8")
    written = [out / TRACE]
    if not no_picture:
        usual = [int(statistics.median(times)) for times in zip(*profiles, strict=True)]
        draw_roofline(timed_calls(manifest, usual, limits), limits, out / ROOFLINE,
                      f"{folder.name}, {target}, 1 thread")  # fmt: skip
        written.append(out / ROOFLINE)
    median = statistics.median(map(sum, profiles)) / 1e9
    if as_json:
        show_json({"runs": runs, "median_us": median * 1e6, "files": [str(p) for p in written]})
        return
    show_facts([("median", format_seconds(median)), *((p.name, str(p)) for p in written)])
