/* Matrix products by cuBLASLt, which is opened at run time. Internal. */
#ifndef GO_MATMUL_H
#define GO_MATMUL_H

#include "go_runtime.h"

enum { GO_NO_ACTIVATION, GO_RELU, GO_GELU_TANH };
enum { GO_F32, GO_F16, GO_BF16 };
enum { GO_FULL, GO_TF32 };

/* d = activation(a b + c + bias): a [batch, m, k], b [batch, k, n], c and d [batch, m, n], rows `ld`
   elements apart, matrices `step` (0: one for all). A transposed b lies as [n, k]. */
typedef struct {
    int64_t m, n, k, batch;
    int64_t lda, ldb, ldd;
    int64_t step_a, step_b, step_d;
    int transposed_b, has_bias, has_c, activation;
    int dtype, precision;
} go_matmul;

typedef struct go_matmul_plan go_matmul_plan;

/* Open the library for the current device, which is `device`; once for each. */
int go_matmul_open(int device);

/* Choose an algorithm that takes at most *workspace bytes, and tell how many it takes. */
int go_matmul_create(go_matmul_plan **plan, int device, const go_matmul *what,
                     size_t *workspace);
int go_matmul_run(const go_matmul_plan *plan, const void *a, const void *b, const void *bias,
                  const void *c, void *d, void *workspace, go_stream stream);
void go_matmul_destroy(go_matmul_plan *plan);

#endif
