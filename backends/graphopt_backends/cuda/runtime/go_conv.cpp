/* Convolutions in terms of cuDNN's fused convolution, bias and activation. */
#include "go_conv.h"

#include <pthread.h>
#include <stdlib.h>

#include "go_cudnn.h"

enum { OLDEST = 90000 };

static cudnn_functions dnn;
static void *handles[GO_MOST_DEVICES];
static pthread_mutex_t using_handle = PTHREAD_MUTEX_INITIALIZER; /* its stream is its state */

struct go_conv_plan {
    void *handle, *x, *w, *y, *bias, *conv, *activation;
    void *zeros; /* a bias where the model has none: cuDNN wants one */
    size_t workspace;
    int has_z;
};

static int failed(int status, const char *what) {
    return go_fail(GO_NO_LIBRARY, "cuDNN %zu: %s: status %d", dnn.version(), what, status);
}

int go_conv_open(int device) {
    if (handles[device] != NULL) return GO_OK;
    const int error = go_cudnn_functions(&dnn);
    if (error) return error;
    if (dnn.version() < OLDEST)
        return go_fail(GO_NO_LIBRARY, "cuDNN is version %zu; the model needs %d or later",
                       dnn.version(), OLDEST);
    const int status = dnn.create(&handles[device]);
    return status == 0 ? GO_OK : failed(status, "opening");
}

static int type_of(int dtype) {
    return dtype == GO_F32 ? DNN_FLOAT : dtype == GO_F16 ? DNN_HALF : DNN_BFLOAT16;
}

static int make_tensor(void **desc, const go_conv *v, int n, int c, int h, int w) {
    int status = dnn.tensor_create(desc);
    if (!status) status = dnn.tensor_set(*desc, DNN_NHWC, type_of(v->dtype), n, c, h, w);
    return status;
}

static int make_tensors(go_conv_plan *plan, const go_conv *v) {
    int status = make_tensor(&plan->x, v, v->n, v->c, v->h, v->w);
    if (!status) status = make_tensor(&plan->y, v, v->n, v->o, v->p, v->q);
    if (!status) status = make_tensor(&plan->bias, v, 1, v->o, 1, 1);
    if (!status) status = dnn.filter_create(&plan->w);
    if (!status)
        status = dnn.filter_set(plan->w, type_of(v->dtype), DNN_NHWC, v->o, v->c / v->groups, v->r,
                                v->s);
    return status;
}

static int make_conv(go_conv_plan *plan, const go_conv *v) {
    const int math = v->dtype == GO_F32 && v->precision == GO_FULL ? DNN_FMA : DNN_TENSOR_OP;
    const int mode = v->activation == GO_RELU ? DNN_RELU : DNN_IDENTITY;
    int status = dnn.conv_create(&plan->conv);
    if (!status)
        status = dnn.conv_set(plan->conv, v->pad_h, v->pad_w, v->stride_h, v->stride_w,
                              v->dilation_h, v->dilation_w, DNN_CROSS_CORRELATION, DNN_FLOAT);
    if (!status) status = dnn.conv_set_groups(plan->conv, v->groups);
    if (!status) status = dnn.conv_set_math(plan->conv, math);
    if (!status) status = dnn.activation_create(&plan->activation);
    if (!status) status = dnn.activation_set(plan->activation, mode, DNN_PROPAGATE_NAN, 0);
    return status;
}

/* Zeros in place of a bias; every type's zero is zero bytes. */
static int make_zeros(go_conv_plan *plan, const go_conv *v) {
    const size_t bytes = (size_t)v->o * (v->dtype == GO_F32 ? 4 : 2);
    void *const zeros = calloc(1, bytes);
    if (zeros == NULL) return go_fail(GO_NO_MEMORY, "out of host memory");
    int error = go_allocate(&plan->zeros, bytes, "a bias of zeros");
    if (!error) error = go_upload(plan->zeros, zeros, bytes);
    free(zeros);
    return error;
}

/* With the only algorithm that every activation goes with. */
int go_conv_create(go_conv_plan **plan, int device, const go_conv *what, size_t *workspace) {
    const size_t most = *workspace;
    *plan = (go_conv_plan *)calloc(1, sizeof **plan);
    if (*plan == NULL) return go_fail(GO_NO_MEMORY, "out of host memory");
    (*plan)->handle = handles[device];
    (*plan)->has_z = what->has_z;
    int status = make_tensors(*plan, what);
    if (!status) status = make_conv(*plan, what);
    if (!status)
        status = dnn.workspace((*plan)->handle, (*plan)->x, (*plan)->w, (*plan)->conv, (*plan)->y,
                               DNN_IMPLICIT_PRECOMPUTED_GEMM, &(*plan)->workspace);
    *workspace = (*plan)->workspace;
    if (status) return failed(status, "preparing a convolution");
    if ((*plan)->workspace > most)
        return go_fail(GO_NO_LIBRARY, "cuDNN: a convolution takes %zu bytes of workspace; the model has "
                                "%zu for it", (*plan)->workspace, most);
    return what->has_bias ? GO_OK : make_zeros(*plan, what);
}

int go_conv_run(const go_conv_plan *plan, const void *x, const void *w, const void *bias,
                const void *z, void *y, void *workspace, go_stream stream) {
    const float one = 1, alpha2 = plan->has_z ? 1 : 0;
    pthread_mutex_lock(&using_handle);
    int status = dnn.set_stream(plan->handle, stream);
    if (!status)
        status = dnn.forward(plan->handle, &one, plan->x, x, plan->w, w, plan->conv,
                             DNN_IMPLICIT_PRECOMPUTED_GEMM, workspace, plan->workspace, &alpha2,
                             plan->y, plan->has_z ? z : y, plan->bias,
                             bias != NULL ? bias : plan->zeros, plan->activation, plan->y, y);
    pthread_mutex_unlock(&using_handle);
    return status == 0 ? GO_OK : failed(status, "a convolution");
}

void go_conv_destroy(go_conv_plan *plan) {
    if (plan == NULL) return;
    if (plan->x != NULL) dnn.tensor_destroy(plan->x);
    if (plan->y != NULL) dnn.tensor_destroy(plan->y);
    if (plan->bias != NULL) dnn.tensor_destroy(plan->bias);
    if (plan->w != NULL) dnn.filter_destroy(plan->w);
    if (plan->conv != NULL) dnn.conv_destroy(plan->conv);
    if (plan->activation != NULL) dnn.activation_destroy(plan->activation);
    go_release(plan->zeros);
    free(plan);
}
