/* cuDNN's graph interface by its meaning, on the host, as far as attention goes, with the checks that
   the library makes: half types, rows that lie next to each other, head sizes in eights to 256. */
#include "go_cudnn_graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "go_half.h"

enum { OK = 0, BAD_PARAM = 2000, NOT_SUPPORTED = 3000 };
enum { WORKSPACE = 4096, MOST_ATTRIBUTES = 16, MOST_BYTES = 512 };

typedef struct {
    int name, type;
    int64_t count;
    char values[MOST_BYTES];
} attribute;

typedef struct {
    int kind, finished, used;
    attribute attributes[MOST_ATTRIBUTES];
} descriptor;

static size_t version(void) { return 92100; }

static int create(void **handle) {
    static int one;
    *handle = &one;
    return OK;
}

static int set_stream(void *, go_stream) { return OK; }

static int desc_create(int kind, void **made) {
    *made = calloc(1, sizeof(descriptor));
    ((descriptor *)*made)->kind = kind;
    return OK;
}

static int desc_destroy(void *desc) {
    free(desc);
    return OK;
}

static size_t size_of(int type) {
    if (type == TYPE_BOOLEAN || type == TYPE_CHAR) return 1;
    return type == TYPE_DATA_TYPE || type == TYPE_HEURISTICS || type == TYPE_POINTWISE ? 4 : 8;
}

static int set(void *to, int name, int type, int64_t count, const void *values) {
    descriptor *const d = (descriptor *)to;
    const size_t bytes = (size_t)count * size_of(type);
    if (d->finished || d->used == MOST_ATTRIBUTES || bytes > MOST_BYTES) return BAD_PARAM;
    attribute *const a = &d->attributes[d->used++];
    a->name = name, a->type = type, a->count = count;
    memcpy(a->values, values, bytes);
    if (type != TYPE_DESCRIPTOR) return OK;
    for (int64_t i = 0; i < count; i++)
        if (!((descriptor *const *)a->values)[i]->finished) return BAD_PARAM;
    return OK;
}

static const attribute *find(const descriptor *d, int name) {
    for (int i = 0; i < d->used; i++)
        if (d->attributes[i].name == name) return &d->attributes[i];
    return NULL;
}

static const descriptor *part(const descriptor *d, int name) {
    const attribute *const a = find(d, name);
    return a ? *(descriptor *const *)a->values : NULL;
}

static int64_t number(const descriptor *d, int name) {
    const attribute *const a = find(d, name);
    if (a == NULL) return -1;
    return size_of(a->type) == 4 ? *(const int32_t *)a->values : *(const int64_t *)a->values;
}

/* Tensors ---------------------------------------------------------------------------------- */

static int64_t extent(const descriptor *t, int axis) {
    return ((const int64_t *)find(t, TENSOR_DIMS)->values)[axis];
}

static int64_t stride(const descriptor *t, int axis) {
    return ((const int64_t *)find(t, TENSOR_STRIDES)->values)[axis];
}

static int half_of(const descriptor *t) {
    const int64_t type = number(t, TENSOR_TYPE);
    return type == GRAPH_FLOAT ? GO_IS_FLOAT : type == GRAPH_HALF ? GO_IS_F16 : GO_IS_BF16;
}

/* Where an element lies; an axis of extent 1 serves all. */
static int64_t place(const descriptor *t, int64_t b, int64_t h, int64_t i, int64_t j) {
    const int64_t at[4] = {b, h, i, j};
    int64_t sum = 0;
    for (int axis = 0; axis < 4; axis++)
        if (extent(t, axis) > 1) sum += at[axis] * stride(t, axis);
    return sum;
}

static int is_stack(const descriptor *t, int64_t b, int64_t h, int64_t rows, int64_t width) {
    const int64_t type = number(t, TENSOR_TYPE);
    return extent(t, 0) == b && extent(t, 1) == h && extent(t, 2) == rows &&
           extent(t, 3) == width && stride(t, 3) == 1 && width % 8 == 0 && width <= 256 &&
           (type == GRAPH_HALF || type == GRAPH_BFLOAT16);
}

/* Attention -------------------------------------------------------------------------------- */

static int is_supported(const descriptor *a) {
    const descriptor *const q = part(a, ATTENTION_Q), *const k = part(a, ATTENTION_K);
    const descriptor *const v = part(a, ATTENTION_V), *const y = part(a, ATTENTION_Y);
    if (!q || !k || !v || !y || extent(q, 1) % extent(k, 1)) return 0;
    const int64_t b = extent(q, 0), h = extent(q, 1), s = extent(q, 2);
    const int64_t hk = extent(k, 1), t = extent(k, 2);
    return is_stack(q, b, h, s, extent(q, 3)) && is_stack(k, b, hk, t, extent(q, 3)) &&
           is_stack(v, b, hk, t, extent(v, 3)) && is_stack(y, b, h, s, extent(v, 3));
}

static int finalize(void *desc) {
    descriptor *const d = (descriptor *)desc;
    if (d->kind == KIND_ATTENTION && !is_supported(d)) return BAD_PARAM;
    if (d->kind == KIND_BAND_MASK && number(d, BAND_COMPARISON) != POINTWISE_GE)
        return NOT_SUPPORTED;
    d->finished = 1;
    return OK;
}

static int get(void *from, int name, int, int64_t most, int64_t *count, void *values) {
    const descriptor *const d = (const descriptor *)from;
    *count = 1;
    if (name == PLAN_WORKSPACE) *(int64_t *)values = WORKSPACE;
    if (name != HEURISTICS_RESULTS) return name == PLAN_WORKSPACE ? OK : NOT_SUPPORTED;
    if (most < 1) return BAD_PARAM;
    descriptor *const config = *(descriptor **)values;
    const int error = set(config, HEURISTICS_GRAPH, TYPE_DESCRIPTOR, 1,
                          find(d, HEURISTICS_GRAPH)->values);
    config->finished = 1;
    return error;
}

/* A run: which memory each tensor has, by its number. */
typedef struct {
    const attribute *ids, *data;
} bound;

static void *memory_of(const bound *b, const descriptor *t) {
    for (int64_t i = 0; i < b->ids->count; i++)
        if (((const int64_t *)b->ids->values)[i] == number(t, TENSOR_ID))
            return ((void *const *)b->data->values)[i];
    return NULL;
}

static float scalar_of(const bound *b, const descriptor *t) {
    const void *const at = memory_of(b, t);
    return number(t, TENSOR_TYPE) == GRAPH_INT32 ? (float)*(const int32_t *)at : *(const float *)at;
}

/* What a graph of operations makes of one score. */
static float masked(const bound *m, const descriptor *graph, float score, int64_t b, int64_t h,
                    int64_t i, int64_t j) {
    const attribute *const all = graph ? find(graph, GRAPH_OPERATIONS) : NULL;
    for (int64_t n = 0; all && n < all->count; n++) {
        const descriptor *const o = ((descriptor *const *)all->values)[n];
        if (o->kind == KIND_POINTWISE_OPERATION) {
            const descriptor *const added = part(o, POINTWISE_B);
            score += go_value_at(memory_of(m, added), half_of(added), place(added, b, h, i, j));
        } else if ((float)i + scalar_of(m, part(o, BAND_SHIFT)) < (float)j) {
            score = scalar_of(m, part(o, BAND_FILL));
        }
    }
    return score;
}

static void attend(const bound *m, const descriptor *a, float *weights, int64_t b, int64_t h,
                   int64_t i) {
    const descriptor *const q = part(a, ATTENTION_Q), *const k = part(a, ATTENTION_K);
    const descriptor *const v = part(a, ATTENTION_V), *const y = part(a, ATTENTION_Y);
    const int64_t hk = h / (extent(q, 1) / extent(k, 1)), keys = extent(k, 2);
    const float scale = scalar_of(m, part(a, ATTENTION_SCALE));
    float top = -INFINITY, total = 0;
    for (int64_t j = 0; j < keys; j++) {
        float sum = 0;
        for (int64_t c = 0; c < extent(q, 3); c++)
            sum += go_value_at(memory_of(m, q), half_of(q), place(q, b, h, i, c)) *
                   go_value_at(memory_of(m, k), half_of(k), place(k, b, hk, j, c));
        weights[j] = masked(m, part(a, ATTENTION_SCORES_GRAPH), sum * scale, b, h, i, j);
        top = fmaxf(top, weights[j]);
    }
    for (int64_t j = 0; j < keys; j++) total += weights[j] = expf(weights[j] - top);
    for (int64_t c = 0; c < extent(v, 3); c++) {
        float sum = 0;
        for (int64_t j = 0; j < keys; j++)
            sum += weights[j] * go_value_at(memory_of(m, v), half_of(v), place(v, b, hk, j, c));
        go_put_at(memory_of(m, y), half_of(y), place(y, b, h, i, c), sum / total);
    }
}

static int execute(void *, void *plan, void *pointers) {
    const descriptor *const given = (const descriptor *)pointers;
    const descriptor *const graph = part(part((descriptor *)plan, PLAN_CONFIG), HEURISTICS_GRAPH);
    const descriptor *const a = part(graph, GRAPH_OPERATIONS), *const q = part(a, ATTENTION_Q);
    const bound m = {find(given, POINTERS_IDS), find(given, POINTERS_DATA)};
    if (!given->finished || !m.ids || !m.data || m.ids->count != m.data->count) return BAD_PARAM;
    memset(*(void *const *)find(given, POINTERS_WORKSPACE)->values, 0xFF, WORKSPACE);
    float *const weights = (float *)malloc(sizeof(float) * (size_t)extent(part(a, ATTENTION_K), 2));
    for (int64_t b = 0; b < extent(q, 0); b++)
        for (int64_t h = 0; h < extent(q, 1); h++)
            for (int64_t i = 0; i < extent(q, 2); i++) attend(&m, a, weights, b, h, i);
    free(weights);
    return OK;
}

int go_cudnn_graph_functions(cudnn_graph_functions *f) {
    *f = {version, create, set_stream, desc_create, desc_destroy, set, get, finalize, execute};
    return GO_OK;
}
