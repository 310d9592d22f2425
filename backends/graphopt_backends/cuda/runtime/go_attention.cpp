/* Attention in terms of cuDNN's operation for it, which takes what is done to the scores, masks, as
   a graph of its own. */
#include "go_attention.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "go_cudnn_graph.h"

enum { OLDEST = 91300, OLDEST_WITH_MASKS = 92100 };
enum { Q = 1, K, V, Y, SCALE, MASK, SHIFT, FILL, POINTERS = FILL, SCORES = 100 }; /* of tensors */
enum { MOST_DESCS = 64, MOST_CONFIGS = 8 };

static cudnn_graph_functions dnn;
static void *handles[GO_MOST_DEVICES];
static pthread_mutex_t using_handle = PTHREAD_MUTEX_INITIALIZER; /* its stream is its state */

struct go_attention_plan {
    void *handle, *device; /* one or the other: the device's that is there, or another described */
    void *descs[MOST_DESCS];
    int count, status;
    void *plan;
    size_t workspace;
    int has_mask, causal;
    int64_t q_at, k_at, v_at, mask_at;
    float scale;
};

static int failed(int status, const char *what) {
    return go_fail(GO_NO_LIBRARY, "cuDNN %zu: %s: status %d", dnn.version(), what, status);
}

static int open_library(void) {
    const int error = dnn.version == NULL ? go_cudnn_graph_functions(&dnn) : GO_OK;
    if (error) dnn.version = NULL;
    return error;
}

int go_attention_open(int device) {
    if (handles[device] != NULL) return GO_OK;
    const int error = open_library();
    if (error) return error;
    const int status = dnn.create(&handles[device]);
    return status == 0 ? GO_OK : failed(status, "opening");
}

/* Descriptors ------------------------------------------------------------------------------ */

/* The first error stays; what comes after it does nothing. */
static void *make(go_attention_plan *p, int kind) {
    void *desc = NULL;
    if (p->count == MOST_DESCS) p->status = p->status ? p->status : -1;
    if (!p->status) p->status = dnn.desc_create(kind, &desc);
    if (!p->status) p->descs[p->count++] = desc;
    return desc;
}

static void set(go_attention_plan *p, void *desc, int name, int type, int64_t count,
                const void *values) {
    if (!p->status) p->status = dnn.set(desc, name, type, count, values);
}

static void set_desc(go_attention_plan *p, void *desc, int name, void *value) {
    set(p, desc, name, TYPE_DESCRIPTOR, 1, &value);
}

static void set_enum(go_attention_plan *p, void *desc, int name, int type, int value) {
    set(p, desc, name, type, 1, &value);
}

static void set_number(go_attention_plan *p, void *desc, int name, int64_t value) {
    set(p, desc, name, TYPE_INT64, 1, &value);
}

static void *finished(go_attention_plan *p, void *desc) {
    if (!p->status) p->status = dnn.finalize(desc);
    return desc;
}

typedef struct {
    int64_t of[4];
} four;

static void *tensor(go_attention_plan *p, int id, int type, four dims, four strides,
                    int64_t alignment, int flag) {
    const unsigned char yes = 1;
    void *const t = make(p, KIND_TENSOR);
    set_number(p, t, TENSOR_ID, id);
    set_enum(p, t, TENSOR_TYPE, TYPE_DATA_TYPE, type);
    set_number(p, t, TENSOR_ALIGNMENT, alignment);
    set(p, t, TENSOR_DIMS, TYPE_INT64, 4, dims.of);
    set(p, t, TENSOR_STRIDES, TYPE_INT64, 4, strides.of);
    if (flag) set(p, t, flag, TYPE_BOOLEAN, 1, &yes);
    return finished(p, t);
}

/* What is read from the host when a plan is run. */
static void *scalar(go_attention_plan *p, int id, int type) {
    const four ones = {{1, 1, 1, 1}};
    return tensor(p, id, type, ones, ones, 4, TENSOR_IS_BY_VALUE);
}

static void *scores(go_attention_plan *p, const go_attention *v, int id) {
    const four dims = {{v->b, v->h, v->s, v->t}};
    const four strides = {{v->h * v->s * v->t, v->s * v->t, v->t, 1}};
    return tensor(p, id, GRAPH_FLOAT, dims, strides, 16, TENSOR_IS_VIRTUAL);
}

/* Graphs ----------------------------------------------------------------------------------- */

static void *add_mask(go_attention_plan *p, const go_attention *v, int type, void *x, void *y) {
    const four dims = {{v->mask_dims_b, v->mask_dims_h, v->mask_dims_s, v->mask_dims_t}};
    const four strides = {{v->mask_b, v->mask_h, v->mask_s, v->mask_t}};
    void *const mask = tensor(p, MASK, type, dims, strides, 16, 0);
    void *const add = make(p, KIND_POINTWISE);
    set_enum(p, add, POINTWISE_MODE, TYPE_POINTWISE, POINTWISE_ADD);
    set_enum(p, add, POINTWISE_PRECISION, TYPE_DATA_TYPE, GRAPH_FLOAT);
    finished(p, add);
    void *const made = make(p, KIND_POINTWISE_OPERATION);
    set_desc(p, made, POINTWISE_WHICH, add);
    set_desc(p, made, POINTWISE_X, x);
    set_desc(p, made, POINTWISE_B, mask);
    set_desc(p, made, POINTWISE_Y, y);
    return finished(p, made);
}

/* Row i keeps columns up to i + shift, which is 0; others become the fill. */
static void *hide_later(go_attention_plan *p, void *x, void *y) {
    void *const made = make(p, KIND_BAND_MASK);
    set_desc(p, made, BAND_X, x);
    set_desc(p, made, BAND_SHIFT, scalar(p, SHIFT, GRAPH_INT32));
    set_desc(p, made, BAND_FILL, scalar(p, FILL, GRAPH_FLOAT));
    set_desc(p, made, BAND_Y, y);
    set_enum(p, made, BAND_COMPARISON, TYPE_POINTWISE, POINTWISE_GE);
    return finished(p, made);
}

static void add_scores_graph(go_attention_plan *p, const go_attention *v, int type,
                             void *attention) {
    void *operations[2], *at = scores(p, v, SCORES);
    int count = 0;
    if (v->has_mask) {
        void *const next = scores(p, v, SCORES + 1);
        operations[count++] = add_mask(p, v, type, at, next);
        at = next;
    }
    if (v->causal) {
        void *const next = scores(p, v, SCORES + count + 1);
        operations[count++] = hide_later(p, at, next);
    }
    void *const graph = make(p, KIND_GRAPH);
    if (p->handle) set(p, graph, GRAPH_HANDLE, TYPE_HANDLE, 1, &p->handle);
    set(p, graph, GRAPH_OPERATIONS, TYPE_DESCRIPTOR, count, operations);
    set_desc(p, attention, ATTENTION_SCORES_GRAPH, finished(p, graph));
    set_number(p, attention, ATTENTION_SCORES_IN, SCORES);
    set_number(p, attention, ATTENTION_SCORES_OUT, SCORES + count);
}

static void *attention_graph(go_attention_plan *p, const go_attention *v) {
    const int type = v->dtype == GO_F16 ? GRAPH_HALF : GRAPH_BFLOAT16;
    const four q = {{v->b, v->h, v->s, v->d}}, k = {{v->b, v->hk, v->t, v->d}};
    const four w = {{v->b, v->hk, v->t, v->e}}, y = {{v->b, v->h, v->s, v->e}};
    const four q_strides = {{v->q_b, v->q_h, v->q_s, 1}}, k_strides = {{v->k_b, v->k_h, v->k_t, 1}};
    const four v_strides = {{v->v_b, v->v_h, v->v_t, 1}}, y_strides = {{v->y_b, v->y_h, v->y_s, 1}};
    void *const made = make(p, KIND_ATTENTION);
    set_desc(p, made, ATTENTION_Q, tensor(p, Q, type, q, q_strides, 16, 0));
    set_desc(p, made, ATTENTION_K, tensor(p, K, type, k, k_strides, 16, 0));
    set_desc(p, made, ATTENTION_V, tensor(p, V, type, w, v_strides, 16, 0));
    set_desc(p, made, ATTENTION_Y, tensor(p, Y, type, y, y_strides, 16, 0));
    set_desc(p, made, ATTENTION_SCALE, scalar(p, SCALE, GRAPH_FLOAT));
    if (v->has_mask || v->causal) add_scores_graph(p, v, type, made);
    finished(p, made);
    void *const graph = make(p, KIND_GRAPH);
    if (p->handle) set(p, graph, GRAPH_HANDLE, TYPE_HANDLE, 1, &p->handle);
    set_desc(p, graph, GRAPH_OPERATIONS, made);
    return finished(p, graph);
}

/* Plans ------------------------------------------------------------------------------------ */

/* The first of the library's proposals that it can make a plan of, within `most` bytes. */
static void choose(go_attention_plan *p, void *graph, size_t most) {
    void *configs[MOST_CONFIGS], *const heuristics = make(p, KIND_HEURISTICS);
    int64_t found = 0;
    set_desc(p, heuristics, HEURISTICS_GRAPH, graph);
    set_enum(p, heuristics, HEURISTICS_MODE, TYPE_HEURISTICS, HEURISTICS_A);
    if (p->device) set_desc(p, heuristics, HEURISTICS_DEVICE, p->device);
    finished(p, heuristics);
    for (int i = 0; i < MOST_CONFIGS; i++) configs[i] = make(p, KIND_CONFIG);
    if (!p->status)
        p->status = dnn.get(heuristics, HEURISTICS_RESULTS, TYPE_DESCRIPTOR, MOST_CONFIGS, &found,
                            configs);
    for (int i = 0; i < found && !p->status && p->plan == NULL; i++) {
        int64_t bytes = 0, count = 0;
        void *const plan = make(p, KIND_PLAN);
        if (p->handle) set(p, plan, PLAN_HANDLE, TYPE_HANDLE, 1, &p->handle);
        if (p->device) set_desc(p, plan, PLAN_DEVICE, p->device);
        set_desc(p, plan, PLAN_CONFIG, configs[i]);
        if (p->status || dnn.finalize(plan)) continue;
        p->status = dnn.get(plan, PLAN_WORKSPACE, TYPE_INT64, 1, &count, &bytes);
        if ((size_t)bytes > most) continue;
        p->plan = plan;
        p->workspace = (size_t)bytes;
    }
}

static int fill_in(go_attention_plan *p, const go_attention *what, size_t *workspace) {
    const size_t oldest = what->has_mask || what->causal ? OLDEST_WITH_MASKS : OLDEST;
    if (dnn.version() < oldest)
        return go_fail(GO_NO_LIBRARY, "cuDNN is version %zu; the model's attention needs %zu or later",
                       dnn.version(), oldest);
    p->has_mask = what->has_mask;
    p->causal = what->causal;
    p->q_at = what->q_at, p->k_at = what->k_at, p->v_at = what->v_at;
    p->mask_at = what->mask_at;
    memcpy(&p->scale, &what->scale_bits, sizeof p->scale);
    choose(p, attention_graph(p, what), *workspace);
    *workspace = p->workspace;
    if (p->status) return failed(p->status, "preparing attention");
    return p->plan != NULL ? GO_OK : failed(0, "it has no plan for an attention");
}

int go_attention_create(go_attention_plan **plan, int device, const go_attention *what,
                        size_t *workspace) {
    *plan = (go_attention_plan *)calloc(1, sizeof **plan);
    if (*plan == NULL) return go_fail(GO_NO_MEMORY, "out of host memory");
    (*plan)->handle = handles[device];
    return fill_in(*plan, what, workspace);
}

int go_attention_create_for(go_attention_plan **plan, const char *device_json,
                            const go_attention *what, size_t *workspace) {
    *plan = (go_attention_plan *)calloc(1, sizeof **plan);
    if (*plan == NULL) return go_fail(GO_NO_MEMORY, "out of host memory");
    const int error = open_library();
    if (error) return error;
    void *const device = make(*plan, KIND_DEVICE);
    set(*plan, device, DEVICE_JSON, TYPE_CHAR, (int64_t)strlen(device_json), device_json);
    (*plan)->device = finished(*plan, device);
    return fill_in(*plan, what, workspace);
}

/* Pointers are a descriptor, too: one for each run, for a plan may be run on several streams. */
static int execute(const go_attention_plan *p, void *const *data, void *workspace) {
    static const int64_t every[POINTERS] = {Q, K, V, Y, SCALE, MASK, SHIFT, FILL};
    int64_t ids[POINTERS];
    void *given[POINTERS], *pointers = NULL;
    int count = 0;
    for (int i = 0; i < POINTERS; i++) {
        if ((every[i] == MASK && !p->has_mask) || (every[i] > MASK && !p->causal)) continue;
        ids[count] = every[i];
        given[count++] = data[i];
    }
    int status = dnn.desc_create(KIND_POINTERS, &pointers);
    if (!status) status = dnn.set(pointers, POINTERS_IDS, TYPE_INT64, count, ids);
    if (!status) status = dnn.set(pointers, POINTERS_DATA, TYPE_POINTER, count, given);
    if (!status) status = dnn.set(pointers, POINTERS_WORKSPACE, TYPE_POINTER, 1, &workspace);
    if (!status) status = dnn.finalize(pointers);
    if (!status) status = dnn.execute(p->handle, p->plan, pointers);
    if (pointers != NULL) dnn.desc_destroy(pointers);
    return status;
}

int go_attention_run(const go_attention_plan *plan, const void *q, const void *k, const void *v,
                     const void *mask, void *y, void *workspace, go_stream stream) {
    int32_t shift = 0;
    float fill = -INFINITY, scale = plan->scale;
    const uint16_t *const masked = (const uint16_t *)mask; /* all elements are halves */
    void *const data[POINTERS] = {
        (void *)((const uint16_t *)q + plan->q_at), (void *)((const uint16_t *)k + plan->k_at),
        (void *)((const uint16_t *)v + plan->v_at), y, &scale,
        (void *)(masked ? masked + plan->mask_at : NULL), &shift, &fill,
    };
    pthread_mutex_lock(&using_handle);
    int status = dnn.set_stream(plan->handle, stream);
    if (!status) status = execute(plan, data, workspace);
    pthread_mutex_unlock(&using_handle);
    return status == 0 ? GO_OK : failed(status, "attention");
}

void go_attention_destroy(go_attention_plan *plan) {
    if (plan == NULL) return;
    while (plan->count) dnn.desc_destroy(plan->descs[--plan->count]);
    free(plan);
}
