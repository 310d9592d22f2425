"""The entry point of a candidate's library: what it runs, timed on the device between two marks."""

from __future__ import annotations

from graphopt.lower.interface import fill
from graphopt.tune.candidate import MESSAGE, SYMBOL

ENTRY = "candidate.cu"

RUN = "candidate_run"
"""`int candidate_run(void *const *parameters, char *workspace)` enqueues it on the default stream:
0, or the error of which there is a message."""

_TEXT = """// What is run on the default stream, between two marks.
#include "go_runtime.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

@DECLARED@
#ifdef GO_EMULATED
static void hold() {}
#else
// Some 20 us in which the host enqueues what is timed: the device shall not wait for the host.
static __global__ void wait_cycles(long long count)
{
    const long long start = clock64();
    while (clock64() - start < count) {}
}

static void hold() { wait_cycles<<<1, 1>>>(40000); }
#endif

EXPORTED int64_t @SYMBOL@(void *const *parameters, char *workspace, int64_t, int64_t)
{
    static go_timer *timer;
    uint64_t nanoseconds = 0;
    int error = timer ? GO_OK : go_timer_create(&timer, 2);
    if (error) return -error;
    hold();
    error = go_timer_mark(timer, 0, nullptr);
    if (!error) error = @RUN@(parameters, workspace);
    if (!error) error = go_timer_mark(timer, 1, nullptr);
    if (!error) error = go_timer_read(timer, &nanoseconds);
    return error ? -error : (int64_t)nanoseconds;
}

EXPORTED const char *@MESSAGE@(void) { return go_message(); }
"""


def timed(declared: str) -> str:
    """The text of ENTRY; `declared` says what RUN is, or that it is elsewhere."""
    return fill(_TEXT, DECLARED=declared, RUN=RUN, SYMBOL=SYMBOL, MESSAGE=MESSAGE)
