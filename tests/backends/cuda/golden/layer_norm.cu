// layer_norm, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(128)
layer_norm(
    const go::f16 *__restrict__ in0,
    const go::f16 *__restrict__ in1,
    const go::f16 *__restrict__ in2,
    go::f16 *__restrict__ out0)
{
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    go::vec<float, 8> row0[3];
    #pragma unroll
    for (int e = 0; e < 3; e++) {
        const int c = e * 32 + t % 32;
        row0[e] = go::to_float(go::load<8>(in0 + b * 3072 + t / 32 * 768 + c * 8));
    }
    go::vec<float, 8> sum0_part;
    sum0_part = go::splat<8>(0.0f);
    #pragma unroll
    for (int e = 0; e < 3; e++) {
        sum0_part += row0[e];
    }
    float sum0_thread;
    sum0_thread = go::reduce<go::add>(sum0_part);
    float sum0;
    sum0 = go::warp_reduce<go::add, 32>(sum0_thread);
    go::vec<float, 8> sum1_part;
    sum1_part = go::splat<8>(0.0f);
    #pragma unroll
    for (int e = 0; e < 3; e++) {
        const go::vec<float, 8> t0 = row0[e] - sum0 * 0.0013020834f;
        sum1_part += t0 * t0;
    }
    float sum1_thread;
    sum1_thread = go::reduce<go::add>(sum1_part);
    float sum1;
    sum1 = go::warp_reduce<go::add, 32>(sum1_thread);
    #pragma unroll
    for (int e = 0; e < 3; e++) {
        const int c = e * 32 + t % 32;
        go::store(out0 + b * 3072 + t / 32 * 768 + c * 8, go::to_f16((row0[e] - sum0 * 0.0013020834f) * go::rsqrt(sum1 * 0.0013020834f + 1e-05f) * go::to_float(go::load<8>(in1 + c * 8)) + go::to_float(go::load<8>(in2 + c * 8))));
    }
}

extern "C" int layer_norm_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const go::f16 *>(p[0]);
    auto *const in1 = static_cast<const go::f16 *>(p[1]);
    auto *const in2 = static_cast<const go::f16 *>(p[2]);
    auto *const out0 = static_cast<go::f16 *>(p[3]);
    return go::launch(layer_norm, 128, 128, 0, stream, in0, in1, in2, out0);
}
