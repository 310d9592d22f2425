"""`python tests/gpu/prepare.py DIR [NAME...]`: the artifacts of the tests in this folder, made
where nvcc is, for a machine that has a GPU and no nvcc: `pytest -m gpu --gpu-artifacts DIR`."""

from __future__ import annotations

import sys
from pathlib import Path

from gpu_cases import artifact, wanted

from graphopt.errors import GraphoptError


def main(folder: Path, names: list[str]) -> int:
    failures = 0
    for want in wanted():
        if names and want.name not in names:
            continue
        if not want.can_be_made:
            print(f"{want.name}: left out, Python has no {want.package}", flush=True)
            continue
        try:
            artifact(want, folder)
            print(want.name, flush=True)
        except GraphoptError as error:
            failures += 1
            print(f"{want.name}: {error}", flush=True)
    return failures


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
