/* Convolutions by cuDNN, which is opened at run time. Internal. */
#ifndef GO_CONV_H
#define GO_CONV_H

#include "go_runtime.h"
#include "go_matmul.h"

/* y = activation(conv(x, w) + z + bias), channels last: x [n, h, w, c], w [o, r, s, c / groups],
   y and z [n, p, q, o]. Zeros surround x by pad_h and pad_w. */
typedef struct {
    int n, h, w, c;
    int o, r, s;
    int p, q;
    int pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w;
    int groups, has_bias, has_z, activation; /* GO_NO_ACTIVATION or GO_RELU */
    int dtype, precision;
} go_conv;

typedef struct go_conv_plan go_conv_plan;

/* Open the library for the current device, which is `device`; once for each. */
int go_conv_open(int device);

/* Choose an algorithm that takes at most *workspace bytes, and tell how many it takes. */
int go_conv_create(go_conv_plan **plan, int device, const go_conv *what, size_t *workspace);
int go_conv_run(const go_conv_plan *plan, const void *x, const void *w, const void *bias,
                const void *z, void *y, void *workspace, go_stream stream);
void go_conv_destroy(go_conv_plan *plan);

#endif
