/* The machine that go_runtime_emulated.cpp plays. Tests change it to see what a model makes of it. */
#ifndef GO_RUNTIME_EMULATED_H
#define GO_RUNTIME_EMULATED_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
    int devices;
    int driver;           /* 0: none; below 0: minus the CUDA version, as 12040, of one too old */
    int capability;       /* 75 is 7.5 */
    int allocations_left; /* before device memory is full; below 0: it never is */
    int strict_pointers;  /* 1: only what go_allocate gave counts as device memory */
    int capturing;        /* 1: the caller is capturing its stream */
    int recordings;       /* CUDA graphs recorded so far */
    size_t live_bytes;    /* of device memory */
    int ranges;           /* begun so far */
    int open_ranges;      /* begun and not ended */
} go_emulated;

__attribute__((visibility("default"))) go_emulated *go_emulated_machine(void);

#ifdef __cplusplus
}
#endif
#endif
