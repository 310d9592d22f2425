/* cuDNN itself, opened at run time. */
#include "go_cudnn.h"

#include "go_library.h"

int go_cudnn_functions(cudnn_functions *f) {
    static const char *const names[] = {"libcudnn.so.9", NULL};
    static const char *const symbols[] = {
        "cudnnGetVersion",
        "cudnnCreate",
        "cudnnSetStream",
        "cudnnCreateTensorDescriptor",
        "cudnnDestroyTensorDescriptor",
        "cudnnSetTensor4dDescriptor",
        "cudnnCreateFilterDescriptor",
        "cudnnDestroyFilterDescriptor",
        "cudnnSetFilter4dDescriptor",
        "cudnnCreateConvolutionDescriptor",
        "cudnnDestroyConvolutionDescriptor",
        "cudnnSetConvolution2dDescriptor",
        "cudnnSetConvolutionGroupCount",
        "cudnnSetConvolutionMathType",
        "cudnnCreateActivationDescriptor",
        "cudnnDestroyActivationDescriptor",
        "cudnnSetActivationDescriptor",
        "cudnnGetConvolutionForwardWorkspaceSize",
        "cudnnConvolutionBiasActivationForward",
    };
    static_assert(sizeof *f == sizeof symbols, "a symbol for each function");
    return go_library_functions("cuDNN", "libcudnn.so.9", names, symbols,
                                sizeof symbols / sizeof *symbols, reinterpret_cast<void **>(f));
}
