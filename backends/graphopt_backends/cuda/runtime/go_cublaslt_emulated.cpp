/* cuBLASLt's functions by their meaning, on the host: column-major, with every check that the
   library makes of sizes and leading dimensions. */
#include "go_cublaslt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "go_half.h"

enum { OK = 0, INVALID = 7, UNSUPPORTED = 15 };
enum { WORKSPACE = 4096 };

typedef struct {
    int compute, transa, transb, epilogue;
    const void *bias;
} desc;

typedef struct {
    int type;
    int64_t rows, columns, ld, step;
    int32_t batch;
} layout;

static int half_of(int type) {
    return type == LT_R_32F ? GO_IS_FLOAT : type == LT_R_16F ? GO_IS_F16 : GO_IS_BF16;
}

static size_t version(void) { return 130000; }

static int create(void **handle) {
    static int one;
    *handle = &one;
    return OK;
}

static int desc_create(void **made, int compute, int scale) {
    if (scale != LT_R_32F || (compute != LT_COMPUTE_32F && compute != LT_COMPUTE_32F_FAST_TF32))
        return UNSUPPORTED;
    desc *const d = (desc *)calloc(1, sizeof(desc));
    d->compute = compute;
    d->epilogue = LT_EPILOGUE_NONE;
    *made = d;
    return OK;
}

static int release(void *memory) {
    free(memory);
    return OK;
}

static int desc_set(void *of, int attribute, const void *value, size_t bytes) {
    desc *const d = (desc *)of;
    if (attribute == LT_DESC_BIAS_POINTER) {
        if (bytes != sizeof d->bias) return INVALID;
        memcpy(&d->bias, value, bytes);
        return OK;
    }
    int *const field = attribute == LT_DESC_TRANSA     ? &d->transa
                       : attribute == LT_DESC_TRANSB   ? &d->transb
                       : attribute == LT_DESC_EPILOGUE ? &d->epilogue
                                                       : NULL;
    if (field == NULL || bytes != sizeof *field) return INVALID;
    memcpy(field, value, bytes);
    return OK;
}

static int layout_create(void **made, int type, uint64_t rows, uint64_t columns, int64_t ld) {
    if (ld < (int64_t)rows) return INVALID;
    layout *const l = (layout *)calloc(1, sizeof(layout));
    l->type = type, l->rows = (int64_t)rows, l->columns = (int64_t)columns, l->ld = ld;
    l->batch = 1;
    *made = l;
    return OK;
}

static int layout_set(void *of, int attribute, const void *value, size_t bytes) {
    layout *const l = (layout *)of;
    if (attribute == LT_LAYOUT_BATCH_COUNT && bytes == sizeof l->batch)
        memcpy(&l->batch, value, bytes);
    else if (attribute == LT_LAYOUT_BATCH_STRIDE && bytes == sizeof l->step)
        memcpy(&l->step, value, bytes);
    else
        return INVALID;
    return OK;
}

typedef struct {
    size_t workspace;
    uint32_t alignment[4];
} preference;

static int preference_create(void **made) {
    *made = calloc(1, sizeof(preference));
    return OK;
}

static int preference_set(void *of, int attribute, const void *value, size_t bytes) {
    preference *const p = (preference *)of;
    const int operand = attribute - LT_PREFERENCE_ALIGNMENT_A;
    if (attribute == LT_PREFERENCE_WORKSPACE && bytes == sizeof p->workspace)
        memcpy(&p->workspace, value, bytes);
    else if (operand >= 0 && operand < 4 && bytes == sizeof *p->alignment)
        memcpy(&p->alignment[operand], value, bytes);
    else
        return INVALID;
    return OK;
}

/* Extents of op(a) op(b) = d, or 0 where they do not fit. */
static int64_t depth_of(const desc *d, const layout *a, const layout *b, const layout *out) {
    const int64_t m = d->transa ? a->columns : a->rows, k = d->transa ? a->rows : a->columns;
    const int64_t depth = d->transb ? b->columns : b->rows;
    const int64_t n = d->transb ? b->rows : b->columns;
    const int fit = m == out->rows && n == out->columns && k == depth && a->type == b->type &&
                    a->type == out->type && a->batch == b->batch && a->batch == out->batch;
    return fit ? k : 0;
}

static int heuristic(void *, void *of, void *a, void *b, void *c, void *out, void *preferred,
                     int requested, lt_heuristic *found, int *count) {
    const desc *const d = (const desc *)of;
    const preference *const p = (const preference *)preferred;
    const size_t most = p->workspace;
    *count = 0;
    if (requested < 1 || c != out) return INVALID;
    if (d->epilogue & LT_EPILOGUE_BIAS && d->bias == NULL) return UNSUPPORTED;
    for (uint32_t alignment : p->alignment)
        if (alignment > 16 || alignment == 0) return INVALID; /* more than a model promises */
    if (!depth_of(d, (layout *)a, (layout *)b, (layout *)out)) return INVALID;
    memset(found, 0, sizeof *found);
    found->workspace = most < (size_t)WORKSPACE ? most : (size_t)WORKSPACE;
    found->algorithm.data[0] = 1;
    *count = 1;
    return OK;
}

static float activated(float x, int epilogue) {
    if (epilogue & LT_EPILOGUE_RELU) return x > 0 || x != x ? x : 0;
    if (epilogue & LT_EPILOGUE_GELU)
        return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    return x;
}

/* One product: what the functions above have gathered. */
typedef struct {
    desc d;
    layout a, b, c, out;
    const void *at_a, *at_b, *at_c;
    void *at_out, *workspace;
    size_t workspace_bytes;
    float scale, keep;
    int64_t depth;
} product;

static void element(const product &p, int64_t batch, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t k = 0; k < p.depth; k++) {
        const int64_t a = p.d.transa ? k + i * p.a.ld : i + k * p.a.ld;
        const int64_t b = p.d.transb ? j + k * p.b.ld : k + j * p.b.ld;
        sum += (double)go_value_at(p.at_a, half_of(p.a.type), batch * p.a.step + a) *
               go_value_at(p.at_b, half_of(p.b.type), batch * p.b.step + b);
    }
    float x = p.scale * (float)sum;
    const int64_t c = batch * p.c.step + i + j * p.c.ld;
    if (p.keep != 0) x += p.keep * go_value_at(p.at_c, half_of(p.c.type), c);
    if (p.d.epilogue & LT_EPILOGUE_BIAS) x += go_value_at(p.d.bias, half_of(p.out.type), i);
    const int64_t out = batch * p.out.step + i + j * p.out.ld;
    go_put_at(p.at_out, half_of(p.out.type), out, activated(x, p.d.epilogue));
}

static void run(const product &p) {
    if (p.workspace_bytes) memset(p.workspace, 0xFF, p.workspace_bytes);
    for (int64_t batch = 0; batch < p.out.batch; batch++)
        for (int64_t j = 0; j < p.out.columns; j++)
            for (int64_t i = 0; i < p.out.rows; i++) element(p, batch, i, j);
}

static int matmul(void *, void *of, const void *alpha, const void *a, void *a_layout, const void *b,
                  void *b_layout, const void *beta, const void *c, void *c_layout, void *out,
                  void *out_layout, const lt_algorithm *algorithm, void *workspace,
                  size_t workspace_bytes, go_stream) {
    product p = {*(desc *)of, *(layout *)a_layout, *(layout *)b_layout, *(layout *)c_layout,
                 *(layout *)out_layout, a, b, c, out, workspace, workspace_bytes,
                 *(const float *)alpha, *(const float *)beta, 0};
    p.depth = depth_of(&p.d, &p.a, &p.b, &p.out);
    if (!p.depth || algorithm->data[0] != 1) return INVALID;
    if (p.d.epilogue & LT_EPILOGUE_BIAS && p.d.bias == NULL) return INVALID;
    run(p);
    return OK;
}

int go_cublaslt_functions(cublaslt_functions *f) {
    *f = {version,        create,     desc_create,       release,  desc_set,
          layout_create,  release,    layout_set,        preference_create,
          release,        preference_set, heuristic,     matmul};
    return GO_OK;
}
