// softmax, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(256, 2)
softmax(const float *__restrict__ in0, float *__restrict__ out0)
{
    GO_SHARED(shared);
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    go::vec<float, 4> row0[4];
    #pragma unroll
    for (int e = 0; e < 4; e++) {
        const int c = e * 256 + t;
        row0[e] = go::load<4>(in0 + b * 4096 + c * 4);
    }
    go::vec<float, 4> max0_part;
    max0_part = go::splat<4>(-INFINITY);
    #pragma unroll
    for (int e = 0; e < 4; e++) {
        max0_part = go::max(max0_part, row0[e]);
    }
    float max0_thread;
    max0_thread = go::reduce<go::most>(max0_part);
    float max0;
    max0 = go::warp_reduce<go::most, 32>(max0_thread);
    float *const max0_warps = (float *)shared;  // [8]
    if (t % 32 == 0) {
        max0_warps[t / 32] = max0;
    }
    float max0_row;
    __syncthreads();
    max0_thread = max0_warps[t % 8];
    max0_row = go::warp_reduce<go::most, 8>(max0_thread);
    go::vec<float, 4> row1[4];
    #pragma unroll
    for (int e = 0; e < 4; e++) {
        row1[e] = go::exp(row0[e] - max0_row);
    }
    go::vec<float, 4> sum1_part;
    sum1_part = go::splat<4>(0.0f);
    #pragma unroll
    for (int e = 0; e < 4; e++) {
        sum1_part += row1[e];
    }
    float sum1_thread;
    sum1_thread = go::reduce<go::add>(sum1_part);
    float sum1;
    sum1 = go::warp_reduce<go::add, 32>(sum1_thread);
    float *const sum1_warps = (float *)(shared + 32);  // [8]
    if (t % 32 == 0) {
        sum1_warps[t / 32] = sum1;
    }
    float sum1_row;
    __syncthreads();
    sum1_thread = sum1_warps[t % 8];
    sum1_row = go::warp_reduce<go::add, 8>(sum1_thread);
    #pragma unroll
    for (int e = 0; e < 4; e++) {
        const int c = e * 256 + t;
        go::store(out0 + b * 4096 + c * 4, row1[e] * (1.0f / sum1_row));
    }
}

extern "C" int softmax_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const float *>(p[0]);
    auto *const out0 = static_cast<float *>(p[1]);
    return go::launch(softmax, 512, 256, 64, stream, in0, out0);
}
