"""The fixed text of model.h and model.cu: `model` fills in `@NAME@`; `go_model` is the prefix."""

HEADER = """/* A model compiled by graphopt for @TARGET@.

@PORTS@

   Tensors lie in device memory, dense and row-major, aligned to 16 bytes: f32 is float, f64 double,
   i64 int64_t and so on, bool a byte that is 0 or 1; f16 and bf16 are their bits in a uint16_t.
   Outputs overlap neither inputs nor each other.

   A run is put on the caller's stream and waits for nothing: results are there when the stream has
   come so far. The first run on a set of pointers records a CUDA graph, which takes milliseconds;
   runs on one of the last GO_MODEL_GRAPHS sets launch it as it is; another set updates the one that
   was used longest ago. A caller that keeps its buffers has one launch per run. On a stream that
   the caller is capturing, the kernels join the caller's graph.

   An open model belongs to one thread at a time. It has one arena, so its runs follow each other
   even on different streams; open it again (go_model_open_again) to have two at the same time.
   Device memory is allocated when a model is opened, never by a run. */
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
    GO_MODEL_CALLS = @CALLS@, /* kernel and library calls of one run */
    GO_MODEL_GRAPHS = 8 /* sets of pointers whose CUDA graphs are kept */
};

/* Sizes of the tensors above, for buffers of fixed size. */
@SIZES@

/* What functions return; GO_MODEL_OK is 0. */
enum {
    GO_MODEL_OK = 0,
    GO_MODEL_BAD_ARGUMENT = 1,  /* a pointer is NULL or misaligned */
    GO_MODEL_NO_MEMORY = 2,     /* of the device or the host */
    GO_MODEL_NO_FILE = 3,       /* the weights cannot be opened or mapped */
    GO_MODEL_WRONG_WEIGHTS = 4, /* another model's, or cut short */
    GO_MODEL_NO_DRIVER = 5,     /* there is none, or it is too old */
    GO_MODEL_NO_DEVICE = 6,
    GO_MODEL_WRONG_DEVICE = 7,   /* it cannot run the code */
    GO_MODEL_NO_LIBRARY = 8,     /* a vendor library is missing or too old */
    GO_MODEL_NOT_ON_DEVICE = 9,  /* a tensor lies in host memory, or on another device */
    GO_MODEL_CUDA = 10           /* a call of the CUDA runtime failed */
};

/* In words, and what the last failure on this thread was about; never NULL. */
GO_MODEL_API const char *go_model_error(int code);
GO_MODEL_API const char *go_model_message(void);

typedef struct go_model go_model;

/* A CUDA stream: cudaStream_t, CUstream, or torch's `stream.cuda_stream`; NULL is the default. */
typedef void *go_model_stream;

/* Open on a device with the weights in a file or in host memory, which may go afterwards. On an
   error *model is NULL, and nothing is left on the device. */
GO_MODEL_API int go_model_open(const char *weights_path, int device, go_model **model);
GO_MODEL_API int go_model_open_memory(const void *weights, size_t bytes, int device,
                                      go_model **model);

/* Another one with memory of its own, on the same device and with the same weights. */
GO_MODEL_API int go_model_open_again(const go_model *of, go_model **model);

/* Wait for the last run, and give everything back. NULL is allowed. */
GO_MODEL_API void go_model_close(go_model *model);

/* inputs: GO_MODEL_INPUTS device pointers to read from; outputs: GO_MODEL_OUTPUTS to write to. */
GO_MODEL_API int go_model_run(go_model *model, const void *const *inputs, void *const *outputs,
                              go_model_stream stream);

/* Return when all that has been put on the stream is done. */
GO_MODEL_API int go_model_wait(go_model *model, go_model_stream stream);

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

/* Device memory in bytes: of one open model, the workspace of kernels and libraries in it (known
   once it is open), and of the weights, which models opened from each other share. */
GO_MODEL_API size_t go_model_arena_bytes(void);
GO_MODEL_API size_t go_model_workspace_bytes(const go_model *model);
GO_MODEL_API size_t go_model_weights_bytes(void);

/* Device memory for callers without a CUDA runtime of their own. `copy` waits for the stream. */
GO_MODEL_API int go_model_allocate(go_model *model, size_t bytes, void **memory);
GO_MODEL_API void go_model_free(go_model *model, void *memory);
GO_MODEL_API int go_model_to_device(go_model *model, void *device, const void *host, size_t bytes,
                                    go_model_stream stream);
GO_MODEL_API int go_model_to_host(go_model *model, void *host, const void *device, size_t bytes,
                                  go_model_stream stream);

/* For measuring; these wait for the device. ------------------------------------------------ */

/* As run, call by call without a graph; nanoseconds[i] is what call i took on the device.
   GO_MODEL_CALLS elements. */
GO_MODEL_API int go_model_profile(go_model *model, const void *const *inputs, void *const *outputs,
                                  go_model_stream stream, uint64_t *nanoseconds);

/* As run; seen(state, i, arena) is called when call i has ended, whose results lie on the device
   where the manifest says and have not been written over. */
typedef void (*go_model_observer)(void *state, int i, const void *arena);
GO_MODEL_API int go_model_observe(go_model *model, const void *const *inputs, void *const *outputs,
                                  go_model_stream stream, go_model_observer seen, void *state);

/* What call i computes (the model's modules) and its kernel; NULL past the end. */
GO_MODEL_API const char *go_model_call_name(int i);
GO_MODEL_API const char *go_model_call_kernel(int i);

#ifdef __cplusplus
}
#endif
#endif
"""

SOURCE = """/* A model compiled by graphopt for @TARGET@.
   The calls of its kernels in order, and the interface of model.h. Host code only. */
#include "model.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "go_conv.h"
#include "go_file.h"
#include "go_matmul.h"
#include "go_runtime.h"

@PROTOTYPES@

static const size_t weight_bytes = @WEIGHT_BYTES@, weight_header = @WEIGHT_HEADER@;
static const size_t arena_bytes = @ARENA_BYTES@;
static const size_t kernels_workspace = @WORKSPACE_BYTES@; /* libraries may want more */
static const go_code code = {@CODE@};

enum { PLANS = @PLANS@, MOST_WORKSPACE = 256 << 20 };

/* Of the names and sizes of the weights: a file of another model is refused. */
static const unsigned char weight_digest[32] = {
@DIGEST@};

@TENSORS@

/* Where everything lies in one run: what a recorded graph depends on. */
typedef struct {
    const char *weights;
    char *arena, *workspace;
    void *const *plans;
    const void *in[GO_MODEL_INPUTS + 1];
    void *out[GO_MODEL_OUTPUTS + 1];
} frame;

typedef struct {
    char *memory;
    int users;
} shared_weights;

typedef struct {
    frame memory;
    go_graph *graph;
    uint64_t used; /* the number of the last run; 0: never */
} recording;

struct go_model {
    int device;
    shared_weights *weights;
    frame memory;
    size_t workspace_bytes;
    void *plans[PLANS + 1];
    go_stream own; /* graphs are recorded on it: the default stream cannot be captured */
    go_fence *fence;
    recording recordings[GO_MODEL_GRAPHS];
    uint64_t runs;
};

static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER; /* libraries, and users of weights */

@STRUCTURES@

@PLAN_FUNCTIONS@

@BODIES@

typedef struct {
    int (*body)(const frame *m, go_stream stream);
    const char *name, *kernel;
} call;

static const call calls[] = {
@TABLE@
    {NULL, NULL, NULL},
};

/* Runs ------------------------------------------------------------------------------------- */

@KEEP_STATE@
static int enqueue_states(const frame *m, go_stream stream) {
    int error = GO_OK;
    (void)m, (void)stream;
@STATE_COPIES@    return error;
}

/* In a range of the names of what it computes, for profilers. */
static int run_call(const call *c, const frame *m, go_stream stream) {
    go_range_begin(c->name);
    const int error = c->body(m, stream);
    go_range_end();
    return error;
}

static int enqueue(const void *of, go_stream stream) {
    const frame *const m = (const frame *)of;
    int error = enqueue_states(m, stream);
    for (const call *c = calls; c->body != NULL && !error; c++) error = run_call(c, m, stream);
    return error;
}

static int check_pointers(const go_model *m, const frame *given) {
    for (int i = 0; i < GO_MODEL_INPUTS; i++)
        if (!go_is_on_device(given->in[i], m->device))
            return go_fail(GO_NOT_ON_DEVICE, "input %s is not in memory of device %d",
                           input_tensors[i].name, m->device);
    for (int i = 0; i < GO_MODEL_OUTPUTS; i++)
        if (!go_is_on_device(given->out[i], m->device))
            return go_fail(GO_NOT_ON_DEVICE, "output %s is not in memory of device %d",
                           output_tensors[i].name, m->device);
    return GO_OK;
}

/* Kernels move 16 bytes at a time. */
static int check_alignment(const frame *given) {
    for (int i = 0; i < GO_MODEL_INPUTS; i++)
        if ((uintptr_t)given->in[i] % 16)
            return go_fail(GO_BAD_ARGUMENT, "input %s is not aligned to 16 bytes",
                           input_tensors[i].name);
    for (int i = 0; i < GO_MODEL_OUTPUTS; i++)
        if ((uintptr_t)given->out[i] % 16)
            return go_fail(GO_BAD_ARGUMENT, "output %s is not aligned to 16 bytes",
                           output_tensors[i].name);
    return GO_OK;
}

static int prepare(go_model *m, const void *const *inputs, void *const *outputs, frame *now) {
    if (m == NULL || (inputs == NULL && GO_MODEL_INPUTS > 0) ||
        (outputs == NULL && GO_MODEL_OUTPUTS > 0))
        return go_fail(GO_BAD_ARGUMENT, "a pointer is NULL");
    *now = m->memory;
    for (int i = 0; i < GO_MODEL_INPUTS; i++) now->in[i] = inputs[i];
    for (int i = 0; i < GO_MODEL_OUTPUTS; i++) now->out[i] = outputs[i];
@STATES@
    for (int i = 0; i < GO_MODEL_INPUTS; i++)
        if (now->in[i] == NULL)
            return go_fail(GO_BAD_ARGUMENT, "input %s is NULL", input_tensors[i].name);
    for (int i = 0; i < GO_MODEL_OUTPUTS; i++)
        if (now->out[i] == NULL)
            return go_fail(GO_BAD_ARGUMENT, "output %s is NULL", output_tensors[i].name);
    return check_alignment(now);
}

/* The graph for these pointers: one that is there, or the one used longest ago, recorded anew. */
static int find_graph(go_model *m, const frame *now, recording **found) {
    recording *oldest = m->recordings;
    for (int i = 0; i < GO_MODEL_GRAPHS; i++) {
        recording *const r = &m->recordings[i];
        if (r->used && memcmp(&r->memory, now, sizeof *now) == 0) {
            *found = r;
            return GO_OK;
        }
        if (r->used < oldest->used) oldest = r;
    }
    oldest->used = 0;
    *found = oldest;
    int error = check_pointers(m, now);
    if (!error)
        error = go_graph_record(&oldest->graph, m->own, enqueue, now, sizeof *now);
    if (!error) oldest->memory = *now;
    return error;
}

static int run_recorded(go_model *m, const frame *now, go_stream stream) {
    recording *found = NULL;
    int error = find_graph(m, now, &found);
    if (!error) error = go_fence_wait(m->fence, stream);
    if (error) return error;
    found->used = ++m->runs;
    error = go_graph_launch(found->graph, stream);
    return error ? error : go_fence_mark(m->fence, stream);
}

int go_model_run(go_model *m, const void *const *inputs, void *const *outputs,
                 go_model_stream on) {
    const go_stream stream = (go_stream)on;
    frame now;
    int before = 0, error = prepare(m, inputs, outputs, &now);
    if (!error) error = go_device_enter(m->device, &before);
    if (error) return error;
    if (go_is_capturing(stream)) {
        error = check_pointers(m, &now);
        if (!error) error = enqueue(&now, stream);
    } else {
        error = run_recorded(m, &now, stream);
    }
    go_device_leave(before);
    return error;
}

static int profile(const frame *now, go_stream stream, go_timer *timer) {
    int error = enqueue_states(now, stream);
    if (!error) error = go_timer_mark(timer, 0, stream);
    for (int i = 0; i < GO_MODEL_CALLS && !error; i++) {
        error = run_call(&calls[i], now, stream);
        if (!error) error = go_timer_mark(timer, i + 1, stream);
    }
    return error;
}

int go_model_profile(go_model *m, const void *const *inputs, void *const *outputs,
                     go_model_stream on, uint64_t *nanoseconds) {
    const go_stream stream = (go_stream)on;
    frame now;
    go_timer *timer = NULL;
    int before = 0, error = prepare(m, inputs, outputs, &now);
    if (!error) error = go_device_enter(m->device, &before);
    if (error) return error;
    error = check_pointers(m, &now);
    if (!error) error = go_fence_wait(m->fence, stream);
    if (!error) error = go_timer_create(&timer, GO_MODEL_CALLS + 1);
    if (!error) error = profile(&now, stream, timer);
    if (!error) error = go_timer_read(timer, nanoseconds);
    go_timer_destroy(timer);
    go_device_leave(before);
    return error;
}

static int observe(const frame *now, go_stream stream, go_model_observer seen, void *state) {
    int error = enqueue_states(now, stream);
    for (int i = 0; i < GO_MODEL_CALLS && !error; i++) {
        error = run_call(&calls[i], now, stream);
        if (!error) error = go_stream_wait(stream);
        if (!error) seen(state, i, now->arena);
    }
    return error;
}

int go_model_observe(go_model *m, const void *const *inputs, void *const *outputs,
                     go_model_stream on, go_model_observer seen, void *state) {
    const go_stream stream = (go_stream)on;
    frame now;
    int before = 0;
    int error = seen == NULL ? go_fail(GO_BAD_ARGUMENT, "the observer is NULL")
                             : prepare(m, inputs, outputs, &now);
    if (!error) error = go_device_enter(m->device, &before);
    if (error) return error;
    error = check_pointers(m, &now);
    if (!error) error = go_fence_wait(m->fence, stream);
    if (!error) error = observe(&now, stream, seen, state);
    go_device_leave(before);
    return error;
}

/* Open and close --------------------------------------------------------------------------- */

static int is_ours(const unsigned char *weights, size_t bytes) {
    uint64_t stated;
    if (bytes != weight_bytes || memcmp(weights, "GOWEIGHT", 8) != 0) return 0;
    memcpy(&stated, weights + 8, sizeof stated);
    return stated == weight_bytes && memcmp(weights + 16, weight_digest, 32) == 0;
}

static void release_weights(shared_weights *weights) {
    pthread_mutex_lock(&opening);
    const int last = --weights->users == 0;
    pthread_mutex_unlock(&opening);
    if (!last) return;
    go_release(weights->memory);
    free(weights);
}

static int upload_weights(const void *weights, shared_weights **made) {
    shared_weights *const w = (shared_weights *)calloc(1, sizeof *w);
    char what[96];
    void *uploaded = NULL;
    if (w == NULL) return go_fail(GO_NO_MEMORY, "out of host memory");
    w->users = 1;
    snprintf(what, sizeof what, "weights %zu before arena %zu", weight_bytes, arena_bytes);
    int error = go_allocate(&uploaded, weight_bytes, what);
    w->memory = (char *)uploaded;
    if (!error) error = go_upload(uploaded, weights, weight_bytes);
    if (error)
        release_weights(w);
    else
        *made = w;
    return error;
}

static int allocate_arena(go_model *m) {
    char what[96];
    void *arena = NULL;
    snprintf(what, sizeof what, "arena %zu and workspace %zu beside weights %zu", arena_bytes,
             m->workspace_bytes, weight_bytes);
    const int error = go_allocate(&arena, arena_bytes + m->workspace_bytes, what);
    m->memory.arena = (char *)arena;
    m->memory.workspace = (char *)arena + arena_bytes;
    return error;
}

/* Everything but the weights, which are `weights`' and count one more user. */
static int open_on(int device, shared_weights *weights, go_model **model) {
    go_model *const m = (go_model *)calloc(1, sizeof *m);
    if (m == NULL) {
        release_weights(weights);
        return go_fail(GO_NO_MEMORY, "out of host memory");
    }
    m->device = device;
    m->weights = weights;
    m->memory.weights = weights->memory;
    m->memory.plans = m->plans;
    m->workspace_bytes = kernels_workspace;
    pthread_mutex_lock(&opening);
    int error = make_plans(m->plans, device, &m->workspace_bytes);
    pthread_mutex_unlock(&opening);
    if (!error) error = allocate_arena(m);
    if (!error) error = go_stream_create(&m->own);
    if (!error) error = go_fence_create(&m->fence);
    if (error)
        go_model_close(m);
    else
        *model = m;
    return error;
}

int go_model_open_memory(const void *weights, size_t bytes, int device, go_model **model) {
    shared_weights *uploaded = NULL;
    int before = 0;
    if (model == NULL) return go_fail(GO_BAD_ARGUMENT, "model is NULL");
    *model = NULL;
    if (weights == NULL) return go_fail(GO_BAD_ARGUMENT, "weights is NULL");
    if (!is_ours((const unsigned char *)weights, bytes))
        return go_fail(GO_WRONG_WEIGHTS, "the weights are not this model's, or cut short");
    int error = go_device_check(device, code);
    if (!error) error = go_device_enter(device, &before);
    if (error) return error;
    error = upload_weights(weights, &uploaded);
    if (!error) error = open_on(device, uploaded, model);
    go_device_leave(before);
    return error;
}

int go_model_open(const char *weights_path, int device, go_model **model) {
    size_t bytes = 0;
    if (model == NULL) return go_fail(GO_BAD_ARGUMENT, "model is NULL");
    *model = NULL;
    if (weights_path == NULL) return go_fail(GO_BAD_ARGUMENT, "weights_path is NULL");
    const void *const weights = go_map_file(weights_path, &bytes);
    if (weights == NULL) return go_fail(GO_NO_FILE, "%s cannot be opened", weights_path);
    const int error = go_model_open_memory(weights, bytes, device, model);
    go_unmap_file(weights, bytes);
    return error;
}

int go_model_open_again(const go_model *of, go_model **model) {
    int before = 0;
    if (model == NULL) return go_fail(GO_BAD_ARGUMENT, "model is NULL");
    *model = NULL;
    if (of == NULL) return go_fail(GO_BAD_ARGUMENT, "the model is NULL");
    int error = go_device_enter(of->device, &before);
    if (error) return error;
    pthread_mutex_lock(&opening);
    of->weights->users++;
    pthread_mutex_unlock(&opening);
    error = open_on(of->device, of->weights, model);
    go_device_leave(before);
    return error;
}

void go_model_close(go_model *m) {
    int before = 0;
    if (m == NULL) return;
    const int entered = go_device_enter(m->device, &before) == GO_OK;
    go_fence_destroy(m->fence);
    for (int i = 0; i < GO_MODEL_GRAPHS; i++) go_graph_destroy(m->recordings[i].graph);
    destroy_plans(m->plans);
    go_stream_destroy(m->own);
    go_release(m->memory.arena);
    release_weights(m->weights);
    if (entered) go_device_leave(before);
    free(m);
}

/* Memory ----------------------------------------------------------------------------------- */

int go_model_allocate(go_model *m, size_t bytes, void **memory) {
    int before = 0;
    if (m == NULL || memory == NULL) return go_fail(GO_BAD_ARGUMENT, "a pointer is NULL");
    int error = go_device_enter(m->device, &before);
    if (error) return error;
    error = go_allocate(memory, bytes, "a tensor");
    go_device_leave(before);
    return error;
}

void go_model_free(go_model *m, void *memory) {
    int before = 0;
    if (m == NULL || go_device_enter(m->device, &before) != GO_OK) return;
    go_release(memory);
    go_device_leave(before);
}

int go_model_to_device(go_model *m, void *device, const void *host, size_t bytes,
                       go_model_stream stream) {
    int before = 0;
    if (m == NULL) return go_fail(GO_BAD_ARGUMENT, "the model is NULL");
    int error = go_device_enter(m->device, &before);
    if (error) return error;
    error = go_stream_wait((go_stream)stream);
    if (!error) error = go_upload(device, host, bytes);
    go_device_leave(before);
    return error;
}

int go_model_to_host(go_model *m, void *host, const void *device, size_t bytes,
                     go_model_stream stream) {
    int before = 0;
    if (m == NULL) return go_fail(GO_BAD_ARGUMENT, "the model is NULL");
    int error = go_device_enter(m->device, &before);
    if (error) return error;
    error = go_stream_wait((go_stream)stream);
    if (!error) error = go_download(host, device, bytes);
    go_device_leave(before);
    return error;
}

int go_model_wait(go_model *m, go_model_stream stream) {
    int before = 0;
    if (m == NULL) return go_fail(GO_BAD_ARGUMENT, "the model is NULL");
    int error = go_device_enter(m->device, &before);
    if (error) return error;
    error = go_stream_wait((go_stream)stream);
    go_device_leave(before);
    return error;
}

/* Facts ------------------------------------------------------------------------------------ */

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
size_t go_model_workspace_bytes(const go_model *m) { return m == NULL ? 0 : m->workspace_bytes; }
size_t go_model_weights_bytes(void) { return weight_bytes - weight_header; }

const char *go_model_message(void) { return go_message(); }

const char *go_model_error(int error) {
    switch (error) {
    case GO_MODEL_OK: return "no error";
    case GO_MODEL_BAD_ARGUMENT: return "a pointer is NULL or misaligned";
    case GO_MODEL_NO_MEMORY: return "out of memory";
    case GO_MODEL_NO_FILE: return "the weights file cannot be opened";
    case GO_MODEL_WRONG_WEIGHTS: return "the weights are not this model's, or cut short";
    case GO_MODEL_NO_DRIVER: return "there is no NVIDIA driver, or it is too old";
    case GO_MODEL_NO_DEVICE: return "there is no such device";
    case GO_MODEL_WRONG_DEVICE: return "the device cannot run the code";
    case GO_MODEL_NO_LIBRARY: return "a vendor library is missing or too old";
    case GO_MODEL_NOT_ON_DEVICE: return "a tensor is not in the device's memory";
    case GO_MODEL_CUDA: return "a call of the CUDA runtime failed";
    default: return "unknown error";
    }
}
"""

KEEP_STATE = """\
/* State is updated in place: where the caller has it elsewhere afterwards, it is moved first. */
static void keep_state(frame *m, int input, int output) {
    if (m->out[output] == NULL) m->out[output] = (void *)(uintptr_t)m->in[input];
}

static int move_state(const frame *m, int input, int output, size_t bytes, go_stream stream) {
    if (m->out[output] == m->in[input]) return GO_OK;
    return go_copy(m->out[output], m->in[input], bytes, stream);
}
"""
