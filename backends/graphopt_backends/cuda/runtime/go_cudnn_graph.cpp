/* cuDNN's graph interface itself, opened at run time. */
#include "go_cudnn_graph.h"

int go_cudnn_graph_functions(cudnn_graph_functions *f) {
    static const char *const names[] = {"libcudnn.so.9", NULL};
    static const char *const symbols[] = {
        "cudnnGetVersion",
        "cudnnCreate",
        "cudnnSetStream",
        "cudnnBackendCreateDescriptor",
        "cudnnBackendDestroyDescriptor",
        "cudnnBackendSetAttribute",
        "cudnnBackendGetAttribute",
        "cudnnBackendFinalize",
        "cudnnBackendExecute",
    };
    enum { COUNT = sizeof symbols / sizeof *symbols };
    static_assert(sizeof *f == COUNT * sizeof(void *), "a symbol for each function");
    void *const library = go_library_open(names);
    if (library == NULL)
        return go_fail(GO_NO_LIBRARY, "the model calls cuDNN: there is no libcudnn.so.9");
    for (int i = 0; i < COUNT; i++) {
        void *const symbol = go_library_symbol(library, symbols[i]);
        if (symbol == NULL) return go_fail(GO_NO_LIBRARY, "cuDNN has no %s", symbols[i]);
        reinterpret_cast<void **>(f)[i] = symbol;
    }
    return GO_OK;
}
