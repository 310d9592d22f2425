"""What running the model costs a fresh process: `footprint.py eager|compiled INPUTS [ARTIFACT]`.

INPUTS is a safetensors file with one input_ids and attention_mask. Prints JSON: milliseconds from
the first import to the first result, and the process's peak of resident memory.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path


def eager(inputs: str) -> None:
    import torch
    from model import load
    from safetensors.torch import load_file

    tensors = load_file(inputs)
    with torch.no_grad():
        load()(tensors["input_ids"], tensors["attention_mask"])


def compiled(inputs: str, artifact: str) -> None:
    from safetensors.numpy import load_file

    import graphopt

    graphopt.load(artifact).run(load_file(inputs))


def peak_bytes() -> int:
    """High water of resident memory, mapped weights included (getrusage would count the parent)."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024 if found else 0


def main() -> None:
    kind, *arguments = sys.argv[1:]
    start = time.perf_counter()
    if kind == "eager":
        eager(*arguments)
    else:
        compiled(*arguments)
    first_ms = (time.perf_counter() - start) * 1e3
    print(json.dumps({"first_ms": first_ms, "peak_bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
