/* cuDNN's graph interface itself, opened at run time. */
#include "go_cudnn_graph.h"

#include "go_library.h"

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
    static_assert(sizeof *f == sizeof symbols, "a symbol for each function");
    return go_library_functions("cuDNN", "libcudnn.so.9", names, symbols,
                                sizeof symbols / sizeof *symbols, reinterpret_cast<void **>(f));
}
