// attention_of_a_query, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(512)
attention_of_a_query(
    const go::f16 *__restrict__ in0,
    const go::f16 *__restrict__ in1,
    const go::f16 *__restrict__ in2,
    go::f16 *__restrict__ out0)
{
    GO_SHARED(shared);
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    go::vec<float, 8> query;
    go::vec<float, 8> out;
    go::vec<float, 8> value[4];
    float own[4];
    float score[4];
    float peak;
    float sum;
    query = go::to_float(go::load<8>(in0 + b * 128 + t % 16 * 8)) * 0.088388346f;
    out = go::splat<8>(0.0f);
    peak = -INFINITY;
    sum = 0.0f;
    for (int e = 0; e < 4; e++) {
        #pragma unroll
        for (int u = 0; u < 4; u++) {
            const int key = e * 128 + u * 32 + t / 16;
            own[u] = go::reduce<go::add>(query * go::to_float(go::load<8>(in1 + b * 65536 + key * 128 + t % 16 * 8)));
            value[u] = go::to_float(go::load<8>(in2 + b * 65536 + key * 128 + t % 16 * 8));
        }
        #pragma unroll
        for (int u = 0; u < 4; u++) {
            score[u] = go::warp_reduce<go::add, 16>(own[u]);
        }
        float top;
        top = peak;
        #pragma unroll
        for (int u = 0; u < 4; u++) {
            top = go::max(top, score[u]);
        }
        const float shift = top == -INFINITY ? 0.0f : top;
        const float scale = go::exp(peak - shift);
        peak = top;
        sum *= scale;
        out = out * scale;
        #pragma unroll
        for (int u = 0; u < 4; u++) {
            const float weight = go::exp(score[u] - shift);
            sum += weight;
            out += value[u] * weight;
        }
    }
    float *const peaks = (float *)shared;  // [32]
    float *const sums = (float *)(shared + 128);  // [32]
    float *const parts = (float *)(shared + 256);  // [32][128]
    if (t % 16 == 0) {
        peaks[t / 16] = peak;
        sums[t / 16] = sum;
    }
    go::store(parts + t * 8, out);
    __syncthreads();
    if (t < 128) {
        float top;
        float total;
        float whole;
        top = -INFINITY;
        #pragma unroll
        for (int g = 0; g < 32; g++) {
            top = go::max(top, peaks[g]);
        }
        const float shift = top == -INFINITY ? 0.0f : top;
        total = 0.0f;
        whole = 0.0f;
        for (int g = 0; g < 32; g++) {
            const float weight = go::exp(peaks[g] - shift);
            total += sums[g] * weight;
            whole += parts[g * 128 + t] * weight;
        }
        out0[b * 128 + t] = go::to_f16(whole * (total == 0.0f ? 0.0f : 1.0f / total));
    }
}

extern "C" int attention_of_a_query_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const go::f16 *>(p[0]);
    auto *const in1 = static_cast<const go::f16 *>(p[1]);
    auto *const in2 = static_cast<const go::f16 *>(p[2]);
    auto *const out0 = static_cast<go::f16 *>(p[3]);
    return go::launch(attention_of_a_query, 128, 512, 16640, stream, in0, in1, in2, out0);
}
