/* As much of cuBLASLt as a model calls, declared here so that neither its headers nor the library
   are needed to compile. Numbers are those of cublasLt.h, versions 12 and 13. Internal. */
#ifndef GO_CUBLASLT_H
#define GO_CUBLASLT_H

#include <stddef.h>
#include <stdint.h>

#include "go_runtime.h"

enum { LT_R_32F = 0, LT_R_16F = 2, LT_R_16BF = 14 };          /* cudaDataType */
enum { LT_COMPUTE_32F = 68, LT_COMPUTE_32F_FAST_TF32 = 77 };  /* cublasComputeType_t */
enum { LT_OP_N = 0, LT_OP_T = 1 };                            /* cublasOperation_t */
enum { LT_DESC_TRANSA = 3, LT_DESC_TRANSB = 4, LT_DESC_EPILOGUE = 7, LT_DESC_BIAS_POINTER = 8 };
enum { LT_EPILOGUE_RELU = 2, LT_EPILOGUE_BIAS = 4, LT_EPILOGUE_GELU = 32, LT_EPILOGUE_NONE = 1 };
enum { LT_LAYOUT_BATCH_COUNT = 5, LT_LAYOUT_BATCH_STRIDE = 6 };
enum { LT_PREFERENCE_WORKSPACE = 1, LT_PREFERENCE_ALIGNMENT_A = 5 }; /* then B, C, D */

typedef struct {
    uint64_t data[8];
} lt_algorithm;

typedef struct {
    lt_algorithm algorithm;
    size_t workspace;
    int status;
    float waves;
    int reserved[4];
} lt_heuristic;

/* The functions of the library, each returning a cublasStatus_t: 0 is success. */
typedef struct {
    size_t (*version)(void);
    int (*create)(void **handle);
    int (*desc_create)(void **desc, int compute, int scale);
    int (*desc_destroy)(void *desc);
    int (*desc_set)(void *desc, int attribute, const void *value, size_t bytes);
    int (*layout_create)(void **layout, int type, uint64_t rows, uint64_t columns, int64_t ld);
    int (*layout_destroy)(void *layout);
    int (*layout_set)(void *layout, int attribute, const void *value, size_t bytes);
    int (*preference_create)(void **preference);
    int (*preference_destroy)(void *preference);
    int (*preference_set)(void *preference, int attribute, const void *value, size_t bytes);
    int (*heuristic)(void *handle, void *desc, void *a, void *b, void *c, void *d,
                     void *preference, int requested, lt_heuristic *found, int *count);
    int (*matmul)(void *handle, void *desc, const void *alpha, const void *a, void *a_layout,
                  const void *b, void *b_layout, const void *beta, const void *c, void *c_layout,
                  void *d, void *d_layout, const lt_algorithm *algorithm, void *workspace,
                  size_t workspace_bytes, go_stream stream);
} cublaslt_functions;

/* Fill in all functions; GO_NO_LIBRARY where there is no such library. */
int go_cublaslt_functions(cublaslt_functions *functions);

#endif
