/* As much of cuDNN's graph interface as a model calls: descriptors, whose attributes are set by
   number. Numbers are those of cudnn_graph.h, version 9. Internal. */
#ifndef GO_CUDNN_GRAPH_H
#define GO_CUDNN_GRAPH_H

#include <stddef.h>

#include "go_runtime.h"

enum { GRAPH_FLOAT = 0, GRAPH_HALF = 2, GRAPH_INT32 = 4, GRAPH_BFLOAT16 = 9 }; /* data types */
enum { POINTWISE_ADD = 0, POINTWISE_GE = 303 };                     /* cudnnPointwiseMode_t */
enum { HEURISTICS_A = 3 };                                          /* cudnnBackendHeurMode_t */

/* cudnnBackendDescriptorType_t */
enum {
    KIND_POINTWISE = 0,
    KIND_CONFIG = 3,
    KIND_HEURISTICS = 4,
    KIND_PLAN = 5,
    KIND_POINTWISE_OPERATION = 13,
    KIND_GRAPH = 15,
    KIND_POINTERS = 16,
    KIND_TENSOR = 17,
    KIND_DEVICE = 38,
    KIND_ATTENTION = 41,
    KIND_BAND_MASK = 44
};

/* cudnnBackendAttributeType_t */
enum {
    TYPE_HANDLE = 0,
    TYPE_DATA_TYPE = 1,
    TYPE_BOOLEAN = 2,
    TYPE_INT64 = 3,
    TYPE_POINTER = 6,
    TYPE_HEURISTICS = 8,
    TYPE_POINTWISE = 14,
    TYPE_DESCRIPTOR = 15,
    TYPE_CHAR = 24
};

/* cudnnBackendAttributeName_t */
enum {
    POINTWISE_MODE = 0,
    POINTWISE_PRECISION = 1,
    HEURISTICS_MODE = 200,
    HEURISTICS_GRAPH = 201,
    HEURISTICS_RESULTS = 202,
    HEURISTICS_DEVICE = 204,
    PLAN_HANDLE = 400,
    PLAN_CONFIG = 401,
    PLAN_WORKSPACE = 402,
    PLAN_DEVICE = 407,
    POINTWISE_WHICH = 750,
    POINTWISE_X = 751,
    POINTWISE_B = 752,
    POINTWISE_Y = 753,
    GRAPH_HANDLE = 800,
    GRAPH_OPERATIONS = 801,
    TENSOR_ALIGNMENT = 900,
    TENSOR_TYPE = 901,
    TENSOR_DIMS = 902,
    TENSOR_STRIDES = 903,
    TENSOR_ID = 906,
    TENSOR_IS_VIRTUAL = 907,
    TENSOR_IS_BY_VALUE = 908,
    POINTERS_IDS = 1000,
    POINTERS_DATA = 1001,
    POINTERS_WORKSPACE = 1003,
    DEVICE_JSON = 2702,
    ATTENTION_Q = 2800,
    ATTENTION_K = 2801,
    ATTENTION_V = 2802,
    ATTENTION_Y = 2803,
    ATTENTION_SCALE = 2805,
    ATTENTION_SCORES_GRAPH = 2811, /* what is done to scaled scores before the softmax */
    ATTENTION_SCORES_IN = 2812,
    ATTENTION_SCORES_OUT = 2813,
    BAND_X = 3000,
    BAND_SHIFT = 3004,
    BAND_FILL = 3005,
    BAND_Y = 3006,
    BAND_COMPARISON = 3007
};

/* The functions of the library, each returning a cudnnStatus_t: 0 is success. */
typedef struct {
    size_t (*version)(void);
    int (*create)(void **handle);
    int (*set_stream)(void *handle, go_stream stream);
    int (*desc_create)(int kind, void **desc);
    int (*desc_destroy)(void *desc);
    int (*set)(void *desc, int attribute, int type, int64_t count, const void *values);
    int (*get)(void *desc, int attribute, int type, int64_t most, int64_t *count, void *values);
    int (*finalize)(void *desc);
    int (*execute)(void *handle, void *plan, void *pointers);
} cudnn_graph_functions;

/* Fill in all functions; GO_NO_LIBRARY where there is no such library. */
int go_cudnn_graph_functions(cudnn_graph_functions *functions);

#endif
