"""The C library's names that a model may use. Anything else fails the link."""

from __future__ import annotations

LIBC, LIBM = "libc.so.6", "libm.so.6"

_LIBC_NAMES = """
    memcpy memset memmove memcmp posix_memalign free calloc madvise open close lseek mmap munmap
    clock_gettime getpid syscall sched_yield nanosleep pthread_create pthread_join
""".split()  # noqa: SIM905

_LIBM_DOUBLE = """
    exp exp2 expm1 log log1p log2 sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf
    erfc pow atan2 fmod floor ceil trunc rint sqrt fma fmax fmin round roundeven nearbyint sincos
    ldexp cbrt
""".split()  # noqa: SIM905


def stub_source(lib: str) -> str:
    """C that defines the names of a library as empty functions."""
    names = _LIBC_NAMES if lib == LIBC else [n + f for n in _LIBM_DOUBLE for f in ("", "f")]
    return "".join(f"void {name}(void) {{}}\n" for name in names)
