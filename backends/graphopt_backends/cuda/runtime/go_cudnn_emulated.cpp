/* cuDNN's functions by their meaning, on the host, with the checks that the library makes. */
#include "go_cudnn.h"

#include <stdlib.h>
#include <string.h>

#include "go_half.h"

enum { OK = 0, BAD_PARAM = 2000, NOT_SUPPORTED = 3000 };
enum { WORKSPACE = 4096 };

typedef struct {
    int type, n, c, h, w; /* a filter: o, c, r, s */
} tensor;

typedef struct {
    int pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, groups, math;
} conv;

static int half_of(int type) {
    return type == DNN_FLOAT ? GO_IS_FLOAT : type == DNN_HALF ? GO_IS_F16 : GO_IS_BF16;
}

static size_t version(void) { return 90000; }

static int create(void **handle) {
    static int one;
    *handle = &one;
    return OK;
}

static int set_stream(void *, go_stream) { return OK; }

static int release(void *memory) {
    free(memory);
    return OK;
}

static int tensor_create(void **made) {
    *made = calloc(1, sizeof(tensor));
    return OK;
}

static int tensor_set(void *of, int format, int type, int n, int c, int h, int w) {
    if (format != DNN_NHWC) return NOT_SUPPORTED;
    *(tensor *)of = {type, n, c, h, w};
    return OK;
}

static int filter_set(void *of, int type, int format, int o, int c, int r, int s) {
    return tensor_set(of, format, type, o, c, r, s);
}

static int conv_create(void **made) {
    *made = calloc(1, sizeof(conv));
    ((conv *)*made)->groups = 1;
    return OK;
}

static int conv_set(void *of, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
                    int dilation_w, int mode, int compute_type) {
    if (mode != DNN_CROSS_CORRELATION || compute_type != DNN_FLOAT) return NOT_SUPPORTED;
    *(conv *)of = {pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, 1, 0};
    return OK;
}

static int conv_set_groups(void *of, int groups) {
    ((conv *)of)->groups = groups;
    return OK;
}

static int conv_set_math(void *of, int math) {
    ((conv *)of)->math = math;
    return OK;
}

static int activation_create(void **made) {
    *made = calloc(1, sizeof(int));
    return OK;
}

static int activation_set(void *of, int mode, int nan, double) {
    if (nan != DNN_PROPAGATE_NAN) return NOT_SUPPORTED;
    *(int *)of = mode;
    return OK;
}

static int extent(int size, int pad, int window, int stride, int dilation) {
    return (size + 2 * pad - dilation * (window - 1) - 1) / stride + 1;
}

static int fits(const tensor *x, const tensor *w, const conv *v, const tensor *y) {
    return x->type == w->type && x->type == y->type && x->n == y->n && w->n == y->c &&
           w->c * v->groups == x->c && w->n % v->groups == 0 &&
           y->h == extent(x->h, v->pad_h, w->h, v->stride_h, v->dilation_h) &&
           y->w == extent(x->w, v->pad_w, w->w, v->stride_w, v->dilation_w);
}

static int workspace_size(void *, void *x, void *w, void *v, void *y, int algorithm,
                          size_t *bytes) {
    if (algorithm != DNN_IMPLICIT_PRECOMPUTED_GEMM) return NOT_SUPPORTED;
    if (!fits((tensor *)x, (tensor *)w, (conv *)v, (tensor *)y)) return BAD_PARAM;
    *bytes = WORKSPACE;
    return OK;
}

/* One convolution: what the functions above have gathered. */
typedef struct {
    tensor x, w, z, y;
    conv v;
    const void *at_x, *at_w, *at_z, *at_bias;
    void *at_y, *workspace;
    float scale, keep;
    int mode;
} convolution;

static float sum_at(const convolution &a, int n, int o, int p, int q) {
    const int first = o / (a.w.n / a.v.groups) * a.w.c;
    double sum = 0;
    for (int r = 0; r < a.w.h; r++)
        for (int s = 0; s < a.w.w; s++) {
            const int h = p * a.v.stride_h - a.v.pad_h + r * a.v.dilation_h;
            const int column = q * a.v.stride_w - a.v.pad_w + s * a.v.dilation_w;
            if (h < 0 || h >= a.x.h || column < 0 || column >= a.x.w) continue;
            const int64_t at = (((int64_t)n * a.x.h + h) * a.x.w + column) * a.x.c + first;
            const int64_t tap = (((int64_t)o * a.w.h + r) * a.w.w + s) * a.w.c;
            for (int c = 0; c < a.w.c; c++)
                sum += (double)go_value_at(a.at_x, half_of(a.x.type), at + c) *
                       go_value_at(a.at_w, half_of(a.w.type), tap + c);
        }
    return (float)sum;
}

static void run(const convolution &a) {
    memset(a.workspace, 0xFF, WORKSPACE);
    for (int n = 0; n < a.y.n; n++)
        for (int p = 0; p < a.y.h; p++)
            for (int q = 0; q < a.y.w; q++)
                for (int o = 0; o < a.y.c; o++) {
                    const int64_t at = (((int64_t)n * a.y.h + p) * a.y.w + q) * a.y.c + o;
                    float sum = a.scale * sum_at(a, n, o, p, q);
                    if (a.keep != 0) sum += a.keep * go_value_at(a.at_z, half_of(a.z.type), at);
                    sum += go_value_at(a.at_bias, half_of(a.y.type), o);
                    go_put_at(a.at_y, half_of(a.y.type), at, a.mode == DNN_RELU && sum < 0 ? 0 : sum);
                }
}

static int forward(void *, const void *alpha1, void *x_desc, const void *x, void *w_desc,
                   const void *w, void *conv_desc, int algorithm, void *workspace, size_t bytes,
                   const void *alpha2, void *z_desc, const void *z, void *bias_desc,
                   const void *bias, void *activation, void *y_desc, void *y) {
    const convolution a = {*(tensor *)x_desc, *(tensor *)w_desc, *(tensor *)z_desc,
                           *(tensor *)y_desc, *(conv *)conv_desc, x, w, z, bias, y, workspace,
                           *(const float *)alpha1, *(const float *)alpha2, *(int *)activation};
    const tensor *const tb = (tensor *)bias_desc;
    if (algorithm != DNN_IMPLICIT_PRECOMPUTED_GEMM || bytes < WORKSPACE) return BAD_PARAM;
    if (!fits(&a.x, &a.w, &a.v, &a.y) || tb->c != a.y.c || bias == NULL) return BAD_PARAM;
    if (a.z.n != a.y.n || a.z.c != a.y.c || a.z.h != a.y.h || a.z.w != a.y.w) return BAD_PARAM;
    if (a.mode != DNN_RELU && a.mode != DNN_IDENTITY) return NOT_SUPPORTED;
    run(a);
    return OK;
}

int go_cudnn_functions(cudnn_functions *f) {
    *f = {version,         create,          set_stream,      tensor_create,     release,
          tensor_set,      tensor_create,   release,         filter_set,        conv_create,
          release,         conv_set,        conv_set_groups, conv_set_math,     activation_create,
          release,         activation_set,  workspace_size,  forward};
    return GO_OK;
}
