/* Row-major products in terms of cuBLASLt, whose matrices are column-major: it computes
   d' = b' a', where x' is x read as column-major, which is its transpose. */
#include "go_matmul.h"

#include <stdlib.h>

#include "go_cublaslt.h"

enum { OLDEST = 120000 };    /* 12.0: the numbers in go_cublaslt.h */
enum { ALIGNMENT_BYTES = 16 }; /* of every pointer; the library takes 256 for granted */

static cublaslt_functions lt;
static void *handles[GO_MOST_DEVICES];

struct go_matmul_plan {
    void *handle, *desc, *a, *b, *d;
    lt_algorithm algorithm;
    size_t workspace;
    int has_bias, has_c;
};

static int failed(int status, const char *what) {
    return go_fail(GO_NO_LIBRARY, "cuBLASLt %zu: %s: status %d", lt.version(), what, status);
}

int go_matmul_open(int device) {
    if (handles[device] != NULL) return GO_OK;
    const int error = go_cublaslt_functions(&lt);
    if (error) return error;
    if (lt.version() < OLDEST)
        return go_fail(GO_NO_LIBRARY, "cuBLASLt is version %zu; the model needs %d or later",
                       lt.version(), OLDEST);
    const int status = lt.create(&handles[device]);
    return status == 0 ? GO_OK : failed(status, "opening");
}

static int type_of(int dtype) {
    return dtype == GO_F32 ? LT_R_32F : dtype == GO_F16 ? LT_R_16F : LT_R_16BF;
}

static int epilogue_of(const go_matmul *w) {
    int epilogue = w->has_bias ? LT_EPILOGUE_BIAS : 0;
    if (w->activation == GO_RELU) epilogue |= LT_EPILOGUE_RELU;
    if (w->activation == GO_GELU_TANH) epilogue |= LT_EPILOGUE_GELU;
    return epilogue ? epilogue : LT_EPILOGUE_NONE;
}

static int make_desc(go_matmul_plan *plan, const go_matmul *w) {
    const int compute = w->precision == GO_TF32 ? LT_COMPUTE_32F_FAST_TF32 : LT_COMPUTE_32F;
    const int transposed = w->transposed_b ? LT_OP_T : LT_OP_N, epilogue = epilogue_of(w);
    /* none yet, but a null pointer counts as no bias when an algorithm is chosen */
    const void *const later = (const void *)(uintptr_t)256;
    int status = lt.desc_create(&plan->desc, compute, LT_R_32F);
    if (!status) status = lt.desc_set(plan->desc, LT_DESC_TRANSA, &transposed, sizeof transposed);
    if (!status) status = lt.desc_set(plan->desc, LT_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (!status && w->has_bias)
        status = lt.desc_set(plan->desc, LT_DESC_BIAS_POINTER, &later, sizeof later);
    return status;
}

static int make_layout(void **layout, const go_matmul *w, int64_t rows, int64_t columns,
                       int64_t ld, int64_t step) {
    const int32_t batch = (int32_t)w->batch;
    int status = lt.layout_create(layout, type_of(w->dtype), (uint64_t)columns, (uint64_t)rows, ld);
    if (!status) status = lt.layout_set(*layout, LT_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
    if (!status) status = lt.layout_set(*layout, LT_LAYOUT_BATCH_STRIDE, &step, sizeof step);
    return status;
}

static int make_layouts(go_matmul_plan *plan, const go_matmul *w) {
    const int64_t rows_b = w->transposed_b ? w->n : w->k, columns_b = w->transposed_b ? w->k : w->n;
    int status = make_layout(&plan->a, w, w->m, w->k, w->lda, w->step_a);
    if (!status) status = make_layout(&plan->b, w, rows_b, columns_b, w->ldb, w->step_b);
    if (!status) status = make_layout(&plan->d, w, w->m, w->n, w->ldd, w->step_d);
    return status;
}

static int choose(go_matmul_plan *plan, size_t most) {
    void *preference = NULL;
    lt_heuristic found;
    int count = 0;
    const uint32_t aligned = ALIGNMENT_BYTES;
    int status = lt.preference_create(&preference);
    if (!status) status = lt.preference_set(preference, LT_PREFERENCE_WORKSPACE, &most, sizeof most);
    for (int i = 0; i < 4 && !status; i++)
        status = lt.preference_set(preference, LT_PREFERENCE_ALIGNMENT_A + i, &aligned,
                                   sizeof aligned);
    if (!status)
        status = lt.heuristic(plan->handle, plan->desc, plan->b, plan->a, plan->d, plan->d,
                              preference, 1, &found, &count);
    if (preference != NULL) lt.preference_destroy(preference);
    if (status) return status;
    if (count < 1) return -1;
    plan->algorithm = found.algorithm;
    plan->workspace = found.workspace;
    return found.status;
}

int go_matmul_create(go_matmul_plan **plan, int device, const go_matmul *what,
                     size_t *workspace) {
    *plan = (go_matmul_plan *)calloc(1, sizeof **plan);
    if (*plan == NULL) return go_fail(GO_NO_MEMORY, "out of host memory");
    (*plan)->handle = handles[device];
    (*plan)->has_bias = what->has_bias;
    (*plan)->has_c = what->has_c;
    int status = make_desc(*plan, what);
    if (!status) status = make_layouts(*plan, what);
    if (!status) status = choose(*plan, *workspace);
    *workspace = (*plan)->workspace;
    return status == 0 ? GO_OK : failed(status, "choosing an algorithm");
}

int go_matmul_run(const go_matmul_plan *plan, const void *a, const void *b, const void *bias,
                  const void *c, void *d, void *workspace, go_stream stream) {
    const float one = 1, beta = plan->has_c ? 1 : 0;
    int status = 0;
    if (plan->has_bias)
        status = lt.desc_set(plan->desc, LT_DESC_BIAS_POINTER, &bias, sizeof bias);
    if (!status)
        status = lt.matmul(plan->handle, plan->desc, &one, b, plan->b, a, plan->a, &beta,
                           plan->has_c ? c : d, plan->d, d, plan->d, &plan->algorithm, workspace,
                           plan->workspace, stream);
    return status == 0 ? GO_OK : failed(status, "a product");
}

void go_matmul_destroy(go_matmul_plan *plan) {
    if (plan == NULL) return;
    if (plan->desc != NULL) lt.desc_destroy(plan->desc);
    if (plan->a != NULL) lt.layout_destroy(plan->a);
    if (plan->b != NULL) lt.layout_destroy(plan->b);
    if (plan->d != NULL) lt.layout_destroy(plan->d);
    free(plan);
}
