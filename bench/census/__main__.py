"""`python -m bench.census`: which model types of transformers compile, and are right."""

from __future__ import annotations

import fnmatch
import time
from pathlib import Path

import click

from bench.census.attempt import in_folder, isolated
from bench.census.report import JSON, TABLE, failed, read, write


@click.command()
@click.option("--types", "pattern", default="*", show_default=True,
              help="Model types to try, as a shell pattern.")  # fmt: skip
@click.option("--out", type=Path, default=Path("census"), show_default=True,
              help=f"Folder for {JSON} and {TABLE}.")  # fmt: skip
@click.option("--limit", default=100.0, show_default=True, help="Seconds for one type.")
@click.option("--minutes", type=float, help="Begin no type after these; with --add, go on later.")
@click.option("--add", is_flag=True, help="Leave out the types that the folder has records of.")
def main(pattern: str, out: Path, limit: float, minutes: float | None, add: bool) -> None:
    """Build every model type small, compile it and compare it with eager in float64. The exit
    status is 1 where a result is wrong or something crashed."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    import graphopt.frontend.traced  # noqa: F401 - what every child imports is imported once
    from bench.census import small  # noqa: F401

    records, start = (read(out) if add else {}), time.monotonic()
    names = fnmatch.filter(sorted(CONFIG_MAPPING_NAMES), pattern)
    for name in names:
        if name in records:
            continue
        if minutes is not None and time.monotonic() - start > 60 * minutes:
            click.echo("stopped: time is up; --add goes on")
            break
        record = isolated(name, limit, in_folder)
        records[name] = record
        write(records, out)
        click.echo(f"{name}  {record.outcome}  {record.seconds:.0f} s  {record.detail[:120]}")
    raise SystemExit(1 if failed(records.values()) else 0)


if __name__ == "__main__":
    main()
