/* As much of cuDNN as a model calls, declared here so that neither its headers nor the library are
   needed to compile. Numbers are those of cudnn.h, version 9. Internal. */
#ifndef GO_CUDNN_H
#define GO_CUDNN_H

#include <stddef.h>

#include "go_runtime.h"

enum { DNN_FLOAT = 0, DNN_HALF = 2, DNN_BFLOAT16 = 9 };           /* cudnnDataType_t */
enum { DNN_NHWC = 1 };                                            /* cudnnTensorFormat_t */
enum { DNN_CROSS_CORRELATION = 1 };                               /* cudnnConvolutionMode_t */
enum { DNN_TENSOR_OP = 1, DNN_FMA = 3 };                          /* cudnnMathType_t */
enum { DNN_RELU = 1, DNN_IDENTITY = 5 };                          /* cudnnActivationMode_t */
enum { DNN_PROPAGATE_NAN = 1 };                                   /* cudnnNanPropagation_t */
enum { DNN_IMPLICIT_PRECOMPUTED_GEMM = 1 };                       /* cudnnConvolutionFwdAlgo_t */

/* The functions of the library, each returning a cudnnStatus_t: 0 is success. */
typedef struct {
    size_t (*version)(void);
    int (*create)(void **handle);
    int (*set_stream)(void *handle, go_stream stream);
    int (*tensor_create)(void **desc);
    int (*tensor_destroy)(void *desc);
    int (*tensor_set)(void *desc, int format, int type, int n, int c, int h, int w);
    int (*filter_create)(void **desc);
    int (*filter_destroy)(void *desc);
    int (*filter_set)(void *desc, int type, int format, int o, int c, int r, int s);
    int (*conv_create)(void **desc);
    int (*conv_destroy)(void *desc);
    int (*conv_set)(void *desc, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
                    int dilation_w, int mode, int compute_type);
    int (*conv_set_groups)(void *desc, int groups);
    int (*conv_set_math)(void *desc, int math);
    int (*activation_create)(void **desc);
    int (*activation_destroy)(void *desc);
    int (*activation_set)(void *desc, int mode, int nan, double coefficient);
    int (*workspace)(void *handle, void *x, void *w, void *conv, void *y, int algorithm,
                     size_t *bytes);
    int (*forward)(void *handle, const void *alpha1, void *x_desc, const void *x, void *w_desc,
                   const void *w, void *conv, int algorithm, void *workspace, size_t bytes,
                   const void *alpha2, void *z_desc, const void *z, void *bias_desc,
                   const void *bias, void *activation, void *y_desc, void *y);
} cudnn_functions;

/* Fill in all functions; GO_NO_LIBRARY where there is no such library. */
int go_cudnn_functions(cudnn_functions *functions);

#endif
