"""What the C interface of a model says of its tensors: in model.h, and in tables of its source."""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.program import Port, Program
from graphopt.target import Target

PREFIX = "go_model"


def header(template: str, program: Program, target: Target) -> str:
    """model.h with the default prefix."""
    return fill(
        template,
        TARGET=f"{target.name} ({target.isa})",
        PORTS="\n".join(_overview(program)),
        INPUTS=str(len(program.inputs)),
        OUTPUTS=str(len(program.outputs)),
        CALLS=str(len(program.calls)),
        SIZES="\n".join(_sizes(program)),
    )


def fill(template: str, **parts: str) -> str:
    """`@NAME@` in a template replaced by its part."""
    for name, text in parts.items():
        template = template.replace(f"@{name}@", text)
    return template


def renamed(text: str, prefix: str) -> str:
    """With another prefix of exported names."""
    return text.replace(PREFIX, prefix).replace(PREFIX.upper(), prefix.upper())


def wrapped(text: str, indent: str) -> str:
    """A list separated by commas, broken into lines."""
    lines, line = [], indent
    for word in text.split(", "):
        if len(line) + len(word) > 97 and line != indent:
            lines.append(line.rstrip())
            line = indent
        line += word + ", "
    return "\n".join([*lines, line.rstrip(", ")])


def _overview(program: Program) -> Iterator[str]:
    """One line per tensor, in columns."""
    ports = [("inputs", *p) for p in enumerate(program.inputs)]
    ports += [("outputs", *p) for p in enumerate(program.outputs)]
    rows = [
        (f"{side}[{i}]", port.name, str(port.type.logical), f"{port.type.size_bytes} bytes")
        for side, i, port in ports
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        yield f"   {line.rstrip()}".replace("*/", "* /")
    for i, o in program.states:
        yield f"   outputs[{o}] may be NULL or inputs[{i}]: state that is updated in place."


def _sizes(program: Program) -> Iterator[str]:
    for side, ports in (("INPUT", program.inputs), ("OUTPUT", program.outputs)):
        for i, port in enumerate(ports):
            yield f"#define GO_MODEL_{side}_{i}_BYTES {port.type.size_bytes}"


def tensor_tables(program: Program) -> str:
    """The arrays `input_tensors` and `output_tensors`, each ended by a row of zeros."""
    return "\n".join([*_table("input", program.inputs), *_table("output", program.outputs)])


def _table(side: str, ports: tuple[Port, ...]) -> Iterator[str]:
    rows = []
    for i, port in enumerate(ports):
        dims = port.type.dims
        if dims:
            yield f"static const int64_t {side}_shape_{i}[] = {{{', '.join(map(str, dims))}}};"
        shape = f"{side}_shape_{i}" if dims else "NULL"
        name, dtype = c_string(port.name), c_string(str(port.type.dtype))
        rows.append(f"    {{{name}, {dtype}, {len(dims)}, {shape}, {port.type.size_bytes}}},")
    yield f"static const go_model_tensor {side}_tensors[] = {{"
    yield from rows
    yield "    {NULL, NULL, 0, NULL, 0},\n};"


def c_string(text: str) -> str:
    """A string literal; what is not printable ASCII by its UTF-8 bytes in octal."""
    plain = [
        chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode()
    ]
    return f'"{"".join(plain)}"'
