"""graphopt inspect: what is in an artifact. Reads the manifest alone; runs nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from graphopt.cli.console import heading, show_facts, show_json, show_table
from graphopt.cli.parameters import artifact_argument, json_option
from graphopt.units import format_bytes, format_count

if TYPE_CHECKING:
    from graphopt.artifact.format import Call, Manifest


@click.command()
@artifact_argument
@json_option
def command(folder: Path, as_json: bool) -> None:
    """Show what is in the artifact in DIR: inputs, outputs, sizes, memory plan, kernels.

    No code of the artifact is executed.
    """
    from graphopt.artifact.format import read_manifest

    manifest = read_manifest(folder)
    if as_json:
        show_json({**dataclasses.asdict(manifest), "buffers": list(_buffers(manifest))})
        return
    _show_facts(folder, manifest)
    _show_ports(manifest)
    _show_memory(manifest)
    _show_kernels(manifest)


def _show_facts(folder: Path, manifest: Manifest) -> None:
    target, memory = manifest.target, manifest.memory
    total = sum(f.size_bytes for f in manifest.files.values())
    bound = format_bytes(memory.arena_lower_bound)
    show_facts(
        [
            ("artifact", f"{folder}, format {manifest.format}, by graphopt {manifest.graphopt}"),
            ("target", f"{target.backend}:{target.name} ({target.arch}, {target.isa})"),
            ("passes", manifest.pipeline),
            ("kernel passes", manifest.kernel_pipeline or "none"),
            ("kernels", f"{len({c.kernel for c in manifest.calls})}, called {len(manifest.calls)} "
             f"times: {format_count(sum(c.flops for c in manifest.calls), 'FLOP')}"),
            ("code", format_bytes(memory.code) if memory.code else "cannot be told"),
            ("weights", f"{format_bytes(memory.weights)} in {len(manifest.weights)} tensors"),
            ("arena", f"{format_bytes(memory.arena)} (lower bound {bound})"),
            ("scratch", format_bytes(memory.scratch)),
            ("files", ", ".join(f"{name} {format_bytes(f.size_bytes)}"
                                for name, f in sorted(manifest.files.items()))),
            ("all files", format_bytes(total)),
            *((name, _shown(value)) for name, value in _facts(manifest)),
        ]
    )  # fmt: skip


def _facts(manifest: Manifest) -> Iterator[tuple[str, Any]]:
    """What the backend has added; of tuning, the records alone are long."""
    return ((name, value) for name, value in manifest.extra.items() if name != "tuning")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items()) or "none"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _show_ports(manifest: Manifest) -> None:
    heading("Inputs and outputs")
    kept = {o: manifest.inputs[i].name for i, o in manifest.states}
    rows = [("input", t.name, t, format_bytes(t.size_bytes), "") for t in manifest.inputs]
    rows += [
        ("output", t.name, t, format_bytes(t.size_bytes), f"state kept in {kept[o]}" if o in kept
         else "")
        for o, t in enumerate(manifest.outputs)
    ]  # fmt: skip
    show_table(("", "name", "type", "size", "note"), rows, numbers=("size",))


def _show_memory(manifest: Manifest) -> None:
    heading("Arena: who lies where, from which call to which")
    show_table(
        ("offset", "size", "from", "to", "value", "type", "computes"),
        (
            (b["offset"], format_bytes(b["size_bytes"]), b["first_call"], b["last_call"],
             f"%{b['value']}", b["type"], b["computes"])
            for b in _buffers(manifest)
        ),
        numbers=("offset", "size", "from", "to"),
    )  # fmt: skip


def _buffers(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """Results in the arena: written by the first call, last read by the other."""
    last = {name: i for i, call in enumerate(manifest.calls) for name in call.reads}
    for i, call in enumerate(manifest.calls):
        for result in call.results:
            if result.space == "arena":
                yield {
                    "offset": result.offset,
                    "size_bytes": result.size_bytes,
                    "first_call": i,
                    "last_call": last.get(result.name, i),
                    "value": result.name,
                    "type": str(result),
                    "computes": call.name,
                }


def _show_kernels(manifest: Manifest) -> None:
    heading("Kernels, in the order of their calls")
    show_table(
        ("call", "work", "moves", "computes", "where", "kernel"),
        (
            (
                i,
                format_count(c.flops, "FLOP"),
                format_bytes(c.bytes_moved),
                c.name,
                _sources(c),
                c.kernel,
            )
            for i, c in enumerate(manifest.calls)
        ),
        numbers=("call", "work", "moves"),
    )


def _sources(call: Call) -> str:
    return ", ".join(dict.fromkeys(source for _, source in call.computes if source))
