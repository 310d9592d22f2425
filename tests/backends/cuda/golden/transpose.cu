// transpose, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(128)
transpose(const float *__restrict__ in0, float *__restrict__ out0)
{
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    const int i = b * 128 + t;
    go::store(out0 + i * 4, go::strided<4>(in0 + i / 8192 * 32768 + i % 16 * 2048 + i / 16 % 512, 512));
}

extern "C" int transpose_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const float *>(p[0]);
    auto *const out0 = static_cast<float *>(p[1]);
    return go::launch(transpose, 512, 128, 0, stream, in0, out0);
}
