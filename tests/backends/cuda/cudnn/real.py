"""The real cuDNN, from the wheel nvidia-cudnn-cu13, where there is no GPU: asked for plans for one
that is described to it, in a process of its own whose libraries are found by LD_LIBRARY_PATH."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources, util
from pathlib import Path

from graphopt_backends.cuda.emit.libraries import structure

from graphopt.program import LibraryCall

HERE = Path(__file__).parent
RUNTIME = Path(str(resources.files("graphopt_backends.cuda") / "runtime"))

H100 = {
    "maxGridSize": [2147483647, 65535, 65535], "maxBlockSize": [1024, 1024, 64],
    "regsPerBlock": 65536, "multiProcessorCount": 132, "smCountOrigin": 0, "warpSize": 32,
    "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": 232448,
    "oversizedSharedMemoryPerBlock": 0, "reservedSharedMemoryPerBlock": 1024,
    "maxRegistersPerSM": 65536, "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024,
    "maxThreadsPerSM": 2048, "pciDeviceId": 0, "pciBusId": 0, "pciDomainId": 0, "isTccDriver": 0,
    "supportCoopLaunch": 1, "smClockRateKHz": 1980000, "memClockRateKHz": 2619000,
    "memoryBusWidth": 5120, "l2CacheSize": 52428800, "deviceName": "NVIDIA H100 80GB HBM3",
    "deviceVer": 900, "driverVer": 13000, "cudaDeviceId": 0, "clockRate": 1980000,
    "totalGlobalMem": 85899345920,
}  # fmt: skip
"""By the names that cuDNN asks for, one after the other, as long as one is missing."""

GPUS = {
    "A100": {**H100, "deviceVer": 800, "multiProcessorCount": 108,
             "maxSharedMemoryPerBlockOptin": 166912},
    "L40S": {**H100, "deviceVer": 890, "multiProcessorCount": 142,
             "maxSharedMemoryPerBlockOptin": 101376},
    "H100": H100,
    "B200": {**H100, "deviceVer": 1000, "multiProcessorCount": 148},
}  # fmt: skip
"""What tells the targets' GPUs apart; clocks and memory are the H100's."""

_ATTENTION = """
#include "go_attention.h"

{structures}

static const go_attention *const all[] = {{{names}}};

extern "C" int plan(int i, const char *device, size_t *workspace)
{{
    go_attention_plan *made = nullptr;
    const int error = go_attention_create_for(&made, device, all[i], workspace);
    go_attention_destroy(made);
    return error;
}}
"""

_CONVOLUTION = """
#include "go_conv.cpp"

{structures}

static const go_conv *const all[] = {{{names}}};

typedef int (*extents)(void *conv, void *x, void *w, int *n, int *c, int *h, int *width);

// The size of the result that cuDNN infers from the descriptors that a model makes.
extern "C" int infer(int i, extents of, int *found)
{{
    go_conv_plan plan = {{}};
    int status = go_cudnn_functions(&dnn);
    if (!status) status = make_tensors(&plan, all[i]);
    if (!status) status = make_conv(&plan, all[i]);
    return status ? status : of(plan.conv, plan.x, plan.w, found, found + 1, found + 2, found + 3);
}}
"""


@dataclass(frozen=True)
class Cudnn:
    """Where the wheels have put it, and pretended libraries that it wants to see."""

    folder: Path
    compiler: Path
    pretended: Path

    @property
    def headers(self) -> Path:
        return self.folder / "include"

    @property
    def version(self) -> int:
        """92100 is 9.21.0."""
        found = self.ask("import ctypes; print(ctypes.CDLL('libcudnn.so.9').cudnnGetVersion())")
        assert isinstance(found, int)
        return found

    def ask(self, program: str, *arguments: str) -> object:
        """What a Python program prints as JSON, where cuDNN can be opened."""
        folders = [self.pretended, self.folder / "lib", self.compiler]
        environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, folders))}
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def find(pretended: Path) -> Cudnn | None:
    """None where a wheel is missing. `pretended`: a folder for libraries that are made."""
    folder, compiler = _package("nvidia.cudnn"), _package("nvidia.cu13")
    if folder is None or compiler is None or not (folder / "lib" / "libcudnn.so.9").is_file():
        return None
    for name in ("libcuda.so.1", "libcublasLt.so.13"):
        made = ["-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(pretended / name)]
        subprocess.run(["gcc", str(HERE / "pretended.c"), *made], check=True)
    return Cudnn(folder, compiler / "lib", pretended)


def _package(name: str) -> Path | None:
    try:
        spec = util.find_spec(name)
    except ModuleNotFoundError:
        return None
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) if places else None


def attention_library(calls: Sequence[LibraryCall], out: Path) -> Path:
    """A library that makes plans for attentions, as a model's text describes them."""
    sources = ["go_attention.cpp", "go_cudnn_graph.cpp"]
    return _library(_ATTENTION, "go_attention", calls, sources, out)


def convolution_library(calls: Sequence[LibraryCall], out: Path) -> Path:
    return _library(_CONVOLUTION, "go_conv", calls, ["go_cudnn.cpp"], out)


def _library(
    text: str, kind: str, calls: Sequence[LibraryCall], sources: Sequence[str], out: Path
) -> Path:
    structures = "\n".join(structure(n, c) for n, c in enumerate(calls))
    names = ", ".join(f"&planned_{n}" for n in range(len(calls)))
    cases, made = out / f"{kind}_cases.cpp", out / f"lib{kind}.so"
    cases.write_text(text.format(structures=structures, names=names))
    files = [
        *(str(RUNTIME / name) for name in (*sources, "go_library.cpp")),
        str(HERE / "deviceless.cpp"),
        str(cases),
    ]
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", f"-I{RUNTIME}", "-ldl"]
    subprocess.run(["g++", *files, *flags, "-o", str(made)], check=True)
    return made
