/* Attention by cuDNN, which is opened at run time. Internal. */
#ifndef GO_ATTENTION_H
#define GO_ATTENTION_H

#include "go_matmul.h"
#include "go_runtime.h"

/* y = softmax(scale q k^T + mask) v, head by head: q [b, h, s, d], k [b, hk, t, d], v [b, hk, t, e],
   y [b, h, s, e], hk dividing h. Elements of a row lie next to each other; `q_b`, `q_h` and `q_s`
   are how far apart q's batches, heads and rows are, and so on. One buffer may hold q, k and v. The mask is [b, h, s, t], or 1 in
   place of any of these. Causal: row i sees keys 0 to i. */
typedef struct {
    int64_t b, h, hk, s, t, d, e;
    int64_t q_b, q_h, q_s, k_b, k_h, k_t, v_b, v_h, v_t, y_b, y_h, y_s;
    int64_t q_at, k_at, v_at, mask_at; /* elements before the first */
    int64_t mask_dims_b, mask_dims_h, mask_dims_s, mask_dims_t;
    int64_t mask_b, mask_h, mask_s, mask_t;
    int has_mask, causal;
    uint32_t scale_bits; /* of a float */
    int dtype;           /* GO_F16 or GO_BF16 */
} go_attention;

typedef struct go_attention_plan go_attention_plan;

/* Open the library for the current device, which is `device`; once for each. */
int go_attention_open(int device);

/* Choose an algorithm that takes at most *workspace bytes, and tell how many it takes. */
int go_attention_create(go_attention_plan **plan, int device, const go_attention *what,
                        size_t *workspace);
int go_attention_run(const go_attention_plan *plan, const void *q, const void *k, const void *v,
                     const void *mask, void *y, void *workspace, go_stream stream);
void go_attention_destroy(go_attention_plan *plan);

/* As go_attention_create, for a device that is described by JSON and need not be there: cuDNN takes
   the graph and has a plan for it, or not. Such a plan is not run. */
int go_attention_create_for(go_attention_plan **plan, const char *device_json,
                            const go_attention *what, size_t *workspace);

#endif
