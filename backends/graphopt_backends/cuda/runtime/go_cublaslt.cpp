/* cuBLASLt itself, opened at run time. */
#include "go_cublaslt.h"

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
    enum { COUNT = sizeof symbols / sizeof *symbols };
    static_assert(sizeof *f == COUNT * sizeof(void *), "a symbol for each function");
    void *const library = go_library_open(names);
    if (library == NULL)
        return go_fail(GO_NO_LIBRARY, "the model calls cuBLASLt: there is no libcublasLt.so.13 "
                                      "or .12");
    for (int i = 0; i < COUNT; i++) {
        void *const symbol = go_library_symbol(library, symbols[i]);
        if (symbol == NULL) return go_fail(GO_NO_LIBRARY, "cuBLASLt has no %s", symbols[i]);
        reinterpret_cast<void **>(f)[i] = symbol;
    }
    return GO_OK;
}
