"""`python -m bench`: races the models of the zoo and writes JSON, a table and a picture."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from bench.held_out import HELD_OUT
from bench.picture import draw
from bench.readme import fill
from bench.zoo import FOUNDATION, MODELS
from graphopt.check.peers import OURS, Lap, as_json, costs, from_json, race, table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PEERS = "eager,inductor,onnxruntime,openvino"
console = Console()


@click.command()
@click.argument("models", nargs=-1)
@click.option("--against", default=PEERS, show_default=True, help="Engines beside graphopt.")
@click.option("--threads", default=1, show_default=True)
@click.option("--rounds", default=7, show_default=True)
@click.option("--seconds", default=0.4, show_default=True, help="Of runs per engine and round.")
@click.option(
    "--out", type=Path,
    help="Folder for results.json, results.md and results.svg. "
    "With --add or --readme it is bench/results/N-thread unless given.",
)  # fmt: skip
@click.option(
    "--add", is_flag=True,
    help="Keep what results.json has; without MODELS only draw it anew.",
)  # fmt: skip
@click.option("--held-out", is_flag=True, help="The models that nothing is tuned on by default.")
@click.option("--readme", is_flag=True, help="Put table and picture into the README.")
def main(
    models: tuple[str, ...], against: str, threads: int, rounds: int, seconds: float,
    out: Path | None, add: bool, held_out: bool, readme: bool,
) -> None:  # fmt: skip
    """Race graphopt beside other engines on MODELS (default: the zoo of the README)."""
    if held_out and readme:
        raise click.UsageError("--readme shows the zoo; leave out --held-out")
    if out is None and (readme or add):
        out = HERE / "results" / (f"held-out-{threads}-thread" if held_out else f"{threads}-thread")
    file, known, usual = ("held_out.py", HELD_OUT, tuple(HELD_OUT)) if held_out else (
        "zoo.py", MODELS, FOUNDATION
    )  # fmt: skip
    unknown = [model for model in models if model not in known]
    if unknown:
        raise click.UsageError(f"there is no model {unknown[0]!r}; choose from {', '.join(known)}")
    engines = [OURS, *dict.fromkeys(e for e in against.split(",") if e not in ("", OURS))]
    results: dict[str, list[Lap]] = {}
    if out is not None and add:
        results = from_json(json.loads(_kept(out).read_text()))
    for model in models or (() if add else usual):
        with console.status(model) as status:
            results[model] = race(
                f"{HERE / file}:{model}", engines, threads=threads, rounds=rounds,
                seconds=seconds, progress=lambda text, m=model, s=status: s.update(f"{m}: {text}"),
            )  # fmt: skip
        _show(model, results[model])
        if out is not None:
            _write(out, results, threads)
    if out is not None and not models:
        _draw(out, results, threads)
    if readme and out is not None:
        measured = json.loads((out / "results.json").read_text())["machine"]
        machine = f"{measured['cpu']}, {threads} thread{'s' * (threads > 1)}"
        picture = (out / "results.svg").resolve().relative_to(ROOT).as_posix()
        fill(ROOT / "README.md", results, day=measured["day"], machine=machine, picture=picture)
    print(f"{table(results)}\n\n{costs(results)}")


def _kept(folder: Path) -> Path:
    path = folder / "results.json"
    if not path.is_file():
        raise click.UsageError(f"--add: there is no {path}; leave --add out to begin one")
    return path


def _show(model: str, laps: list[Lap]) -> None:
    for lap in laps:
        if lap.failure:
            console.print(f"{model}: {lap.engine} fails: {lap.failure}", markup=False)
    done = [lap for lap in laps if lap.rounds]
    text = "  ".join(f"{lap.engine} {lap.median_s * 1e3:.2f} ms" for lap in done)
    console.print(f"{model:22} {text}", markup=False, highlight=False)


def _write(out: Path, results: dict[str, list[Lap]], threads: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    machine = {"day": datetime.now(UTC).date().isoformat(), "cpu": _cpu(), "cores": os.cpu_count(),
               "threads": threads, "system": platform.platform()}  # fmt: skip
    data = {"machine": machine, **as_json(results)}
    (out / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    _draw(out, results, threads)


def _draw(out: Path, results: dict[str, list[Lap]], threads: int) -> None:
    """What is made of results.json."""
    (out / "results.md").write_text(f"{table(results)}\n\n{costs(results)}\n")
    draw(results, out / "results.svg", title=f"{threads} thread{'s' * (threads > 1)}, fp32")


def _cpu() -> str:
    """Virtual machines give cores of several generations one name: family and model tell."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    told = {key.strip(): value.strip() for key, _, value in lines}
    name = told.get("model name") or platform.processor()
    return (
        f"{name} (family {told['cpu family']}, model {told['model']})" if "model" in told else name
    )


if __name__ == "__main__":
    main()
