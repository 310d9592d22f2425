// linear_of_a_row, for sm_90a
//   computes encoder.layer.0 at model.py:12

#include "go_kernel.h"

__global__ void __launch_bounds__(128)
linear_of_a_row(
    const go::f16 *__restrict__ in0,
    const go::f16 *__restrict__ in1,
    const go::f16 *__restrict__ in2,
    go::f16 *__restrict__ out0)
{
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    go::vec<float, 8> acc[1][2];
    #pragma unroll
    for (int j = 0; j < 2; j++) {
        acc[0][j] = go::splat<8>(0.0f);
    }
    for (int e = 0; e < 4; e++) {
        #pragma unroll
        for (int u = 0; u < 4; u++) {
            const int c = e * 128 + u * 32 + t % 32;
            go::vec<float, 8> x[1];
            x[0] = go::to_float(go::load<8>(in0 + c * 8));
            #pragma unroll
            for (int j = 0; j < 2; j++) {
                go::vec<float, 8> w;
                w = go::to_float(go::load<8>(in1 + b * 32768 + t / 32 * 8192 + j * 4096 + c * 8));
                acc[0][j] += x[0] * w;
            }
        }
    }
    float part[1][2];
    #pragma unroll
    for (int j = 0; j < 2; j++) {
        part[0][j] = go::reduce<go::add>(acc[0][j]);
    }
    float sum[1][2];
    #pragma unroll
    for (int j = 0; j < 2; j++) {
        sum[0][j] = go::warp_reduce<go::add, 32>(part[0][j]);
    }
    #pragma unroll
    for (int j = 0; j < 2; j++) {
        if (t % 32 == 0) {
            const float t0 = sum[0][j] + go::to_float(in2[b * 8 + t / 32 * 2 + j]);
            out0[b * 8 + t / 32 * 2 + j] = go::to_f16(t0 * go::normal_cdf(t0));
        }
    }
}

extern "C" int linear_of_a_row_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const go::f16 *>(p[0]);
    auto *const in1 = static_cast<const go::f16 *>(p[1]);
    auto *const in2 = static_cast<const go::f16 *>(p[2]);
    auto *const out0 = static_cast<go::f16 *>(p[3]);
    return go::launch(linear_of_a_row, 512, 128, 0, stream, in0, in1, in2, out0);
}
