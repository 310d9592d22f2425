"""What an exported program is, as a short text: the same again is known before it is imported."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain

import torch
from torch.export import ExportedProgram

_PLACE = ("nn_module_stack", "stack_trace")
"""What torch notes at each node of where it comes from. The graph's names are made of it."""


def program_digest(program: ExportedProgram) -> str:
    """64 hex digits, equal for programs of which the same graph is imported, weights included."""
    digest = hashlib.sha256()
    for line in chain((str(program),), _places(program), _numbers(program)):
        digest.update(line.encode() + b"\0")
    return digest.hexdigest()


def _places(program: ExportedProgram) -> Iterator[str]:
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                yield " ".join([node.name, *(str(node.meta.get(key)) for key in _PLACE)])


def _numbers(program: ExportedProgram) -> Iterator[str]:
    """Each tensor's name, type and bytes."""
    for name, value in chain(program.state_dict.items(), program.constants.items()):
        if not isinstance(value, torch.Tensor):
            yield f"{name} {value!r}"
            continue
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        content = hashlib.sha256(raw.numpy().data).hexdigest()
        yield f"{name} {value.dtype} {tuple(value.shape)} {content}"
