"""The fixed text of model.h and model.c: `model` fills in `@NAME@`; `go_model` is the prefix."""

HEADER = """/* A model compiled by graphopt for @TARGET@.

@PORTS@

   Tensors are dense and row-major, aligned as their elements are: f32 is float, f64 double, i64
   int64_t and so on, bool a byte that is 0 or 1; f16 and bf16 are their bits in a uint16_t. Outputs
   overlap neither inputs nor each other.

   An open model belongs to one thread at a time. Any number may be open at once; those opened from
   one file share its pages. Memory is allocated when a model is opened; its threads start with the
   first run. Running allocates nothing and makes no system call but to wake and await threads. */
#ifndef GO_MODEL_H
#define GO_MODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define GO_MODEL_API __attribute__((visibility("default")))
#else
#define GO_MODEL_API
#endif

enum {
    GO_MODEL_INPUTS = @INPUTS@,
    GO_MODEL_OUTPUTS = @OUTPUTS@,
    GO_MODEL_CALLS = @CALLS@ /* kernel calls of one run */
};

/* Sizes of the tensors above, for buffers of fixed size. */
@SIZES@

/* What functions return; GO_MODEL_OK is 0. */
enum {
    GO_MODEL_OK = 0,
    GO_MODEL_BAD_ARGUMENT = 1,  /* a pointer is NULL or misaligned, or threads is below 1 */
    GO_MODEL_NO_MEMORY = 2,
    GO_MODEL_NO_FILE = 3,       /* the weights cannot be opened or mapped */
    GO_MODEL_WRONG_WEIGHTS = 4, /* another model's, or cut short */
    GO_MODEL_WRONG_CPU = 5      /* x86 only: elsewhere a missing instruction is a signal */
};

/* In words; never NULL. */
GO_MODEL_API const char *go_model_error(int code);

typedef struct go_model go_model;

/* Open with the weights in a file, which is mapped, or in memory, which is aligned to 64 bytes and
   must stay until the model is closed. `threads` counts the caller: with 1 no other is started,
   and more than 256 are not. On an error *model is NULL. */
GO_MODEL_API int go_model_open(const char *weights_path, int threads, go_model **model);
GO_MODEL_API int go_model_open_memory(const void *weights, size_t bytes, int threads,
                                      go_model **model);

/* Give everything back. NULL is allowed. */
GO_MODEL_API void go_model_close(go_model *model);

/* inputs: GO_MODEL_INPUTS pointers to read from; outputs: GO_MODEL_OUTPUTS to write to. Fails with
   GO_MODEL_BAD_ARGUMENT alone, before anything is written. */
GO_MODEL_API int go_model_run(go_model *model, const void *const *inputs, void *const *outputs);

/* What a tensor is: "f32", "i64", ...; `shape` has `rank` extents and is NULL for a scalar. */
typedef struct {
    const char *name, *dtype;
    int rank;
    const int64_t *shape;
    size_t bytes;
} go_model_tensor;

/* Input or output i; NULL past the end. */
GO_MODEL_API const go_model_tensor *go_model_input(int i);
GO_MODEL_API const go_model_tensor *go_model_output(int i);

/* Memory in bytes: of one open model, for each of its threads on top, and of the weights. */
GO_MODEL_API size_t go_model_arena_bytes(void);
GO_MODEL_API size_t go_model_scratch_bytes(void);
GO_MODEL_API size_t go_model_weights_bytes(void);

/* For hosts with threads of their own: `run` calls task(state, i) once for every i below `tasks`,
   on any thread, and returns when all have returned. Set it before the first run; NULL goes back
   to the model's own threads. */
typedef void (*go_model_parallel_for)(void *host, int64_t tasks,
                                      void (*task)(void *state, int64_t i), void *state);
GO_MODEL_API void go_model_set_parallel_for(go_model *model, go_model_parallel_for run, void *host);

/* For measuring -------------------------------------------------------------------------------- */

/* As run; nanoseconds[i] is what call i took. GO_MODEL_CALLS elements. */
GO_MODEL_API int go_model_profile(go_model *model, const void *const *inputs, void *const *outputs,
                                  uint64_t *nanoseconds);

/* As run; seen(state, i, arena) is called after call i, when its results lie where the manifest
   says and nothing has been written over them yet. */
typedef void (*go_model_observer)(void *state, int i, const void *arena);
GO_MODEL_API int go_model_observe(go_model *model, const void *const *inputs, void *const *outputs,
                                  go_model_observer seen, void *state);

/* What call i computes (the model's modules) and its kernel; NULL past the end. */
GO_MODEL_API const char *go_model_call_name(int i);
GO_MODEL_API const char *go_model_call_kernel(int i);

#ifdef __cplusplus
}
#endif
#endif
"""

SOURCE = """/* A model compiled by graphopt for @TARGET@.
   The calls of its kernels in order, and the interface of model.h. */
#include "model.h"

#include <string.h>

#include "go_runtime.h"

@PROTOTYPES@

enum { MAX_THREADS = 256, SHARING_NS = 4000 };

static const size_t weight_bytes = @WEIGHT_BYTES@, weight_header = @WEIGHT_HEADER@;
static const size_t arena_bytes = @ARENA_BYTES@, scratch_bytes = @SCRATCH_BYTES@;

/* Of the names and sizes of the weights: a file of another model is refused. */
static const unsigned char weight_digest[32] = {
@DIGEST@};

@TENSORS@

@CPU_CHECK@

typedef struct {
    const char *weights;
    char *arena;
    const void *in[GO_MODEL_INPUTS + 1];
    void *out[GO_MODEL_OUTPUTS + 1];
} memory;

struct go_model {
    memory memory;
    char *scratch;
    size_t mapped_bytes; /* 0 when the weights are the caller's */
    int threads;
    go_pool *pool;
    go_parallel_for host;
    void *host_state;
};

@BODIES@

typedef struct {
    go_body body;
    int64_t extent;  /* iterations that threads may share */
    int64_t run;     /* neighbouring ones that every thread prepares for anew */
    int64_t cost_ns; /* an estimate on one thread: sharing costs microseconds */
    const char *name, *kernel;
} call;

static const call calls[] = {
@TABLE@
    {NULL, 0, 0, 0, NULL, NULL},
};

static void run_call(const go_model *m, const call *c) {
    int64_t threads = m->threads;
    if (threads > 1 && c->extent > 1) {
        if (threads > 1 + c->cost_ns / SHARING_NS) threads = 1 + c->cost_ns / SHARING_NS;
        if (threads > c->extent) threads = c->extent;
        if (threads > 1) {
            go_parallel(m->pool, m->host, m->host_state, (int)threads, c->body, &m->memory,
                        m->scratch, scratch_bytes, c->extent, c->run);
            return;
        }
    }
    c->body(&m->memory, m->scratch, 0, c->extent);
}

@KEEP_STATE@

static int prepare(go_model *m, const void *const *inputs, void *const *outputs) {
    if (m == NULL || (inputs == NULL && GO_MODEL_INPUTS) || (outputs == NULL && GO_MODEL_OUTPUTS))
        return GO_MODEL_BAD_ARGUMENT;
    for (int i = 0; i < GO_MODEL_INPUTS; i++) m->memory.in[i] = inputs[i];
    for (int i = 0; i < GO_MODEL_OUTPUTS; i++) m->memory.out[i] = outputs[i];
@STATES@
    for (int i = 0; i < GO_MODEL_INPUTS; i++)
        if (m->memory.in[i] == NULL) return GO_MODEL_BAD_ARGUMENT;
    for (int i = 0; i < GO_MODEL_OUTPUTS; i++)
        if (m->memory.out[i] == NULL) return GO_MODEL_BAD_ARGUMENT;
    return GO_MODEL_OK;
}

int go_model_run(go_model *m, const void *const *inputs, void *const *outputs) {
    const int error = prepare(m, inputs, outputs);
    if (error != GO_MODEL_OK) return error;
    for (const call *c = calls; c->body != NULL; c++) run_call(m, c);
    return GO_MODEL_OK;
}

int go_model_profile(go_model *m, const void *const *inputs, void *const *outputs,
                     uint64_t *nanoseconds) {
    const int error = prepare(m, inputs, outputs);
    if (error != GO_MODEL_OK) return error;
    uint64_t before = go_nanoseconds();
    for (int i = 0; i < GO_MODEL_CALLS; i++) {
        run_call(m, &calls[i]);
        const uint64_t now = go_nanoseconds();
        nanoseconds[i] = now - before;
        before = now;
    }
    return GO_MODEL_OK;
}

int go_model_observe(go_model *m, const void *const *inputs, void *const *outputs,
                     go_model_observer seen, void *state) {
    if (seen == NULL) return GO_MODEL_BAD_ARGUMENT;
    const int error = prepare(m, inputs, outputs);
    if (error != GO_MODEL_OK) return error;
    for (int i = 0; i < GO_MODEL_CALLS; i++) {
        run_call(m, &calls[i]);
        seen(state, i, m->memory.arena);
    }
    return GO_MODEL_OK;
}

static int is_ours(const unsigned char *weights, size_t bytes) {
    uint64_t stated;
    if (bytes != weight_bytes || memcmp(weights, "GOWEIGHT", 8) != 0) return 0;
    memcpy(&stated, weights + 8, sizeof stated);
    return stated == weight_bytes && memcmp(weights + 16, weight_digest, 32) == 0;
}

static int open_mapped(const void *weights, size_t bytes, size_t mapped, int threads,
                       go_model **model) {
    if (!runs_here()) return GO_MODEL_WRONG_CPU;
    if (!is_ours(weights, bytes)) return GO_MODEL_WRONG_WEIGHTS;
    go_model *const m = go_allocate(sizeof *m);
    if (m == NULL) return GO_MODEL_NO_MEMORY;
    m->threads = threads > MAX_THREADS ? MAX_THREADS : threads;
    m->memory.weights = weights;
    m->memory.arena = go_allocate(arena_bytes);
    m->scratch = go_allocate(scratch_bytes * (size_t)m->threads);
    if (m->threads > 1) m->pool = go_pool_create(m->threads);
    if (m->memory.arena == NULL || m->scratch == NULL) {
        go_model_close(m);
        return GO_MODEL_NO_MEMORY;
    }
    m->mapped_bytes = mapped;
    *model = m;
    return GO_MODEL_OK;
}

int go_model_open_memory(const void *weights, size_t bytes, int threads, go_model **model) {
    if (model == NULL) return GO_MODEL_BAD_ARGUMENT;
    *model = NULL;
    if (weights == NULL || threads < 1 || (uintptr_t)weights % 64) return GO_MODEL_BAD_ARGUMENT;
    return open_mapped(weights, bytes, 0, threads, model);
}

int go_model_open(const char *weights_path, int threads, go_model **model) {
    size_t bytes = 0;
    if (model == NULL) return GO_MODEL_BAD_ARGUMENT;
    *model = NULL;
    if (weights_path == NULL || threads < 1) return GO_MODEL_BAD_ARGUMENT;
    const void *const weights = go_map_file(weights_path, &bytes);
    if (weights == NULL) return GO_MODEL_NO_FILE;
    const int error = open_mapped(weights, bytes, bytes, threads, model);
    if (error != GO_MODEL_OK) go_unmap_file(weights, bytes);
    return error;
}

void go_model_close(go_model *m) {
    if (m == NULL) return;
    go_pool_destroy(m->pool);
    go_release(m->memory.arena, arena_bytes);
    go_release(m->scratch, scratch_bytes * (size_t)m->threads);
    if (m->mapped_bytes) go_unmap_file(m->memory.weights, m->mapped_bytes);
    go_release(m, sizeof *m);
}

void go_model_set_parallel_for(go_model *m, go_model_parallel_for run, void *host) {
    m->host = run;
    m->host_state = host;
}

const go_model_tensor *go_model_input(int i) {
    return i >= 0 && i < GO_MODEL_INPUTS ? &input_tensors[i] : NULL;
}

const go_model_tensor *go_model_output(int i) {
    return i >= 0 && i < GO_MODEL_OUTPUTS ? &output_tensors[i] : NULL;
}

const char *go_model_call_name(int i) {
    return i >= 0 && i < GO_MODEL_CALLS ? calls[i].name : NULL;
}

const char *go_model_call_kernel(int i) {
    return i >= 0 && i < GO_MODEL_CALLS ? calls[i].kernel : NULL;
}

size_t go_model_arena_bytes(void) { return arena_bytes; }
size_t go_model_scratch_bytes(void) { return scratch_bytes; }
size_t go_model_weights_bytes(void) { return weight_bytes - weight_header; }

const char *go_model_error(int code) {
    switch (code) {
    case GO_MODEL_OK: return "no error";
    case GO_MODEL_BAD_ARGUMENT: return "a pointer is NULL or misaligned, or threads is below 1";
    case GO_MODEL_NO_MEMORY: return "out of memory";
    case GO_MODEL_NO_FILE: return "the weights file cannot be opened";
    case GO_MODEL_WRONG_WEIGHTS: return "the weights are not this model's, or cut short";
    case GO_MODEL_WRONG_CPU: return "this processor lacks instructions the model was compiled for";
    default: return "unknown error";
    }
}
"""

KEEP_STATE = """\
/* State is updated in place: where the caller has it elsewhere afterwards, it is moved first. */
static void keep_state(memory *m, int input, int output, size_t bytes) {
    if (m->out[output] == NULL) m->out[output] = (void *)(uintptr_t)m->in[input];
    if (m->out[output] != m->in[input]) memcpy(m->out[output], m->in[input], bytes);
    m->in[input] = m->out[output];
}"""
