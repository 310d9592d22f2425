/* cuBLASLt itself, opened at run time. */
#include "go_cublaslt.h"

#include "go_library.h"

int go_cublaslt_functions(cublaslt_functions *f) {
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", NULL};
    static const char *const symbols[] = {
        "cublasLtGetVersion",
        "cublasLtCreate",
        "cublasLtMatmulDescCreate",
        "cublasLtMatmulDescDestroy",
        "cublasLtMatmulDescSetAttribute",
        "cublasLtMatrixLayoutCreate",
        "cublasLtMatrixLayoutDestroy",
        "cublasLtMatrixLayoutSetAttribute",
        "cublasLtMatmulPreferenceCreate",
        "cublasLtMatmulPreferenceDestroy",
        "cublasLtMatmulPreferenceSetAttribute",
        "cublasLtMatmulAlgoGetHeuristic",
        "cublasLtMatmul",
    };
    static_assert(sizeof *f == sizeof symbols, "a symbol for each function");
    return go_library_functions("cuBLASLt", "libcublasLt.so.13 or .12", names, symbols,
                                sizeof symbols / sizeof *symbols, reinterpret_cast<void **>(f));
}
