"""Run a program for another processor under qemu: a static executable that needs no libc at all.

zig would build a libc for it first, for most of a minute; the few functions that the runtime calls
are written out here. `pthread_create` fails, as it may: the pool then does all work itself.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from graphopt_backends.cpu.build import build, find_compiler, run_tool
from graphopt_backends.cpu.emit import emit
from programs import write_weights

from graphopt.config import Config
from graphopt.program import Program
from graphopt.target import Target

QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
needs_qemu = pytest.mark.skipif(
    QEMU is None, reason="qemu-aarch64 is not installed (apt-get install qemu-user-static)"
)

MAIN = """
#include <stddef.h>
#include <stdint.h>
#include "model.h"

static long call(long n, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c, x3 __asm__("x3") = d, x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
int open(const char *path, int flags, ...) {
    return (int)call(56, -100, (long)path, flags, 420, 0, 0);
}
int close(int file) { return (int)call(57, file, 0, 0, 0, 0, 0); }
long lseek(int file, long at, int from) { return call(62, file, at, from, 0, 0, 0); }
void *mmap(void *p, size_t n, int protection, int flags, int file, long at) {
    return (void *)call(222, (long)p, (long)n, protection, flags, file, at);
}
int munmap(void *p, size_t n) { return (int)call(215, (long)p, (long)n, 0, 0, 0, 0); }
int madvise(void *p, size_t n, int advice) {
    return (int)call(233, (long)p, (long)n, advice, 0, 0, 0);
}
int clock_gettime(int clock, void *t) { return (int)call(113, clock, (long)t, 0, 0, 0, 0); }
int getpid(void) { return (int)call(172, 0, 0, 0, 0, 0, 0); }
long syscall(long n, ...) { (void)n; return 0; }
int sched_yield(void) { return 0; }
int nanosleep(const void *t, void *rest) { (void)t, (void)rest; return 0; }
int pthread_create(void *t, const void *a, void *(*f)(void *), void *x) {
    (void)t, (void)a, (void)f, (void)x;
    return 11;
}
int pthread_join(unsigned long t, void **r) { (void)t, (void)r; return 0; }
int posix_memalign(void **p, size_t align, size_t n) {
    char *m = mmap(NULL, n + align, 3, 0x22, -1, 0);
    *p = m + (align - (uintptr_t)m % align) % align;
    return 0;
}
void *calloc(size_t n, size_t size) {
    void *p;
    posix_memalign(&p, 64, n * size);
    return p;
}
void free(void *p) { (void)p; }
void *memcpy(void *to, const void *from, size_t n) {
    for (size_t i = 0; i < n; i++) ((volatile char *)to)[i] = ((const char *)from)[i];
    return to;
}
void *memset(void *to, int c, size_t n) {
    for (size_t i = 0; i < n; i++) ((volatile char *)to)[i] = (char)c;
    return to;
}
int memcmp(const void *a, const void *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (((const char *)a)[i] != ((const char *)b)[i]) return 1;
    return 0;
}

static const size_t in_bytes[] = {@IN@}, out_bytes[] = {@OUT@};

static int run(void) {
    go_model *model;
    const void *in[GO_MODEL_INPUTS + 1];
    void *out[GO_MODEL_OUTPUTS + 1];
    if (go_model_open("weights.bin", 2, &model) != GO_MODEL_OK) return 2;
    const int input = open("inputs", 0), output = open("outputs", 577);
    for (int i = 0; i < GO_MODEL_INPUTS; i++) {
        in[i] = calloc(1, in_bytes[i]);
        call(63, input, (long)in[i], (long)in_bytes[i], 0, 0, 0);
    }
    for (int i = 0; i < GO_MODEL_OUTPUTS; i++) out[i] = calloc(1, out_bytes[i]);
    if (go_model_run(model, in, out) != GO_MODEL_OK) return 3;
    for (int i = 0; i < GO_MODEL_OUTPUTS; i++)
        call(64, output, (long)out[i], (long)out_bytes[i], 0, 0, 0);
    go_model_close(model);
    return 0;
}
void _start(void) {
    call(93, run(), 0, 0, 0, 0, 0);
}
"""


def run_emulated(
    program: Program, target: Target, folder: Path, *inputs: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The program's outputs for these inputs. Two threads are asked for."""
    sources = emit(program, target)
    library = build(sources, target, folder / "model.a")
    (folder / "model.h").write_text(sources["model.h"])
    text = MAIN.replace("@IN@", ", ".join(str(x.nbytes) for x in inputs) or "0")
    sizes = [p.type.size_bytes for p in program.outputs]
    (folder / "main.c").write_text(text.replace("@OUT@", ", ".join(map(str, sizes))))
    compiler, config = find_compiler(), Config.from_environment()
    flags = ["-target", target.triple, "-O1", "-w", "-ffreestanding", "-fno-builtin"]
    compiled = [*compiler.command, *flags, "-c", "main.c", "-o", "main.o"]
    run_tool(compiled, config, what="compiling main.c", cwd=folder)
    linked = [compiler.command[0], "ld.lld", "-static", "main.o", str(library), "-o", "main"]
    run_tool(linked, config, what="linking main", cwd=folder)
    write_weights(program, folder / "weights.bin")
    (folder / "inputs").write_bytes(b"".join(x.tobytes() for x in inputs))
    done = subprocess.run([str(QEMU), "./main"], cwd=folder, timeout=120, check=False)
    assert done.returncode == 0, done
    content, out = (folder / "outputs").read_bytes(), []
    for port, size in zip(program.outputs, sizes, strict=True):
        part, content = content[:size], content[size:]
        out.append(np.frombuffer(part, port.type.dtype.numpy).reshape(port.type.dims))
    return tuple(out)
