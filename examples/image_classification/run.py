"""Compile an image classifier by the Python API and run it: `run.py [mobilenet|resnet]`."""

from __future__ import annotations

import sys
import time

import model
import numpy as np
import torch

import graphopt

ROUNDS = 20


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "mobilenet"
    eager, (pixels,) = getattr(model, name)()
    program = graphopt.compile(eager, (pixels,), threads=1)
    print(f"{name}: {program.report.kernels} kernels, artifact in {program.folder}")

    image = np.random.default_rng(1).standard_normal(pixels.shape, np.float32)
    scores = program(image)  # numpy in, numpy out; a tensor would give a tensor
    with torch.no_grad():
        expected = eager.double()(torch.from_numpy(image).double()).numpy()
    error = np.abs(scores - expected).max() / np.abs(expected).max()
    print(
        f"top class {scores.argmax()}, eager {expected.argmax()}; off by {error:.1e} of the largest"
    )

    start = time.perf_counter()
    for _ in range(ROUNDS):
        program(image)
    print(f"{(time.perf_counter() - start) / ROUNDS * 1e3:.2f} ms an image, one thread")


if __name__ == "__main__":
    main()
