// depthwise, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(128)
depthwise(const float *__restrict__ in0, const float *__restrict__ in1, float *__restrict__ out0)
{
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    const int i = b * 128 + t;
    go::vec<float, 4> acc[4];
    #pragma unroll
    for (int r = 0; r < 4; r++) {
        acc[r] = go::splat<4>(0.0f);
    }
    #pragma unroll
    for (int k0 = 0; k0 < 3; k0++) {
        #pragma unroll
        for (int k1 = 0; k1 < 3; k1++) {
            #pragma unroll
            for (int r = 0; r < 4; r++) {
                acc[r] += go::load<4>(in0 + i / 6272 * 115200 + i / 224 % 28 * 3840 + k0 * 3840 + i / 32 % 7 * 512 + r * 128 + k1 * 128 + i % 32 * 4) * go::load<4>(in1 + k0 * 384 + k1 * 128 + i % 32 * 4);
            }
        }
    }
    #pragma unroll
    for (int r = 0; r < 4; r++) {
        go::store(out0 + i / 32 * 512 + r * 128 + i % 32 * 4, acc[r]);
    }
}

extern "C" int depthwise_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const float *>(p[0]);
    auto *const in1 = static_cast<const float *>(p[1]);
    auto *const out0 = static_cast<float *>(p[2]);
    return go::launch(depthwise, 196, 128, 0, stream, in0, in1, out0);
}
