// transpose, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(128)
transpose(const float *__restrict__ in0, float *__restrict__ out0)
{
    GO_SHARED(shared);
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    float *const tile0 = (float *)shared;  // [32][33]
    #pragma unroll
    for (int u = 0; u < 8; u++) {
        const int x = b % 2 * 32 + u * 4 + t / 32;
        const int y = b / 2 % 16 * 32 + t % 32;
        tile0[u * 132 + t / 32 * 33 + t % 32] = in0[b / 32 * 32768 + x * 512 + y];
    }
    __syncthreads();
    #pragma unroll
    for (int u = 0; u < 8; u++) {
        const int x = b % 2 * 32 + t % 32;
        const int y = b / 2 % 16 * 32 + u * 4 + t / 32;
        out0[b / 32 * 32768 + y * 64 + x] = tile0[t % 32 * 33 + u * 4 + t / 32];
    }
}

extern "C" int transpose_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const float *>(p[0]);
    auto *const out0 = static_cast<float *>(p[1]);
    return go::launch(transpose, 256, 128, 4224, stream, in0, out0);
}
