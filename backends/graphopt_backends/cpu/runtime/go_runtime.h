/* Threads for the kernels of a compiled model. Internal; model.h is the interface. */
#ifndef GO_RUNTIME_H
#define GO_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

/* Iterations [begin, end) of a kernel's outermost loop; `scratch` is this thread's own. */
typedef void (*go_body)(const void *frame, char *scratch, int64_t begin, int64_t end);

/* Runs task(state, 0) ... task(state, tasks - 1), in any order, and returns when all are done. */
typedef void (*go_parallel_for)(void *host, int64_t tasks,
                                void (*task)(void *state, int64_t index), void *state);

typedef struct go_pool go_pool;

/* `threads` counts the caller. NULL when out of memory or where there are no threads. */
go_pool *go_pool_create(int threads);
void go_pool_destroy(go_pool *pool);

/* Share `extent` iterations among `threads`; thread i uses scratch + i * scratch_bytes.
   Every thread prepares anew for the part it gets of each `run` of them. `host` replaces the pool
   when not NULL. */
void go_parallel(go_pool *pool, go_parallel_for host, void *host_state, int threads, go_body body,
                 const void *frame, char *scratch, size_t scratch_bytes, int64_t extent,
                 int64_t run);

/* Zeroed memory aligned to a cache line, in huge pages where the system gives them. */
void *go_allocate(size_t bytes);
void go_release(void *memory, size_t bytes);

/* A file mapped for reading, or NULL. */
const void *go_map_file(const char *path, size_t *bytes);
void go_unmap_file(const void *memory, size_t bytes);

uint64_t go_nanoseconds(void);

#endif
