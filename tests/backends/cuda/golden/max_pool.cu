// max_pool, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(128)
max_pool(const float *__restrict__ in0, float *__restrict__ out0)
{
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    const int i = b * 128 + t;
    go::vec<float, 4> acc[4];
    #pragma unroll
    for (int r = 0; r < 4; r++) {
        acc[r] = go::splat<4>(-INFINITY);
    }
    #pragma unroll
    for (int k0 = 0; k0 < 3; k0++) {
        #pragma unroll
        for (int k1 = 0; k1 < 3; k1++) {
            #pragma unroll
            for (int r = 0; r < 4; r++) {
                acc[r] = go::max(acc[r], go::load<4>(in0 + i / 12544 * 817216 + i / 224 % 56 * 14464 + k0 * 7232 + i / 16 % 14 * 512 + r * 128 + k1 * 64 + i % 16 * 4));
            }
        }
    }
    #pragma unroll
    for (int r = 0; r < 4; r++) {
        go::store(out0 + i / 16 * 256 + r * 64 + i % 16 * 4, acc[r]);
    }
}

extern "C" int max_pool_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const float *>(p[0]);
    auto *const out0 = static_cast<float *>(p[1]);
    return go::launch(max_pool, 392, 128, 0, stream, in0, out0);
}
