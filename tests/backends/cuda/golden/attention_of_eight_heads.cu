// attention_of_eight_heads, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(128)
attention_of_eight_heads_0(
    const go::bf16 *__restrict__ in0,
    const go::bf16 *__restrict__ in1,
    const go::bf16 *__restrict__ in2,
    float *__restrict__ part_peaks,
    float *__restrict__ part_sums,
    float *__restrict__ part_values)
{
    GO_SHARED(shared);
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    go::vec<float, 8> query[8];
    go::vec<float, 8> out[8];
    go::vec<float, 8> value[2];
    float own[8][2];
    float score[8][2];
    float peak[8];
    float sum[8];
    #pragma unroll
    for (int r = 0; r < 8; r++) {
        query[r] = go::to_float(go::load<8>(in0 + b / 16 * 1024 + r * 128 + t % 16 * 8)) * 0.088388346f;
        out[r] = go::splat<8>(0.0f);
        peak[r] = -INFINITY;
        sum[r] = 0.0f;
    }
    for (int e = 0; e < 16; e++) {
        #pragma unroll
        for (int u = 0; u < 2; u++) {
            const int key = b % 16 * 256 + e * 16 + u * 8 + t / 16;
            const go::vec<float, 8> k = go::to_float(go::load<8>(in1 + b / 16 * 524288 + key * 128 + t % 16 * 8));
            #pragma unroll
            for (int r = 0; r < 8; r++) {
                own[r][u] = go::reduce<go::add>(query[r] * k);
            }
            value[u] = go::to_float(go::load<8>(in2 + b / 16 * 524288 + key * 128 + t % 16 * 8));
        }
        #pragma unroll
        for (int u = 0; u < 2; u++) {
            #pragma unroll
            for (int r = 0; r < 8; r++) {
                score[r][u] = go::warp_reduce<go::add, 16>(own[r][u]);
            }
        }
        #pragma unroll
        for (int r = 0; r < 8; r++) {
            float top;
            top = peak[r];
            #pragma unroll
            for (int u = 0; u < 2; u++) {
                top = go::max(top, score[r][u]);
            }
            const float shift = top == -INFINITY ? 0.0f : top;
            const float scale = go::exp(peak[r] - shift);
            peak[r] = top;
            sum[r] *= scale;
            out[r] = out[r] * scale;
            #pragma unroll
            for (int u = 0; u < 2; u++) {
                const float weight = go::exp(score[r][u] - shift);
                sum[r] += weight;
                out[r] += value[u] * weight;
            }
        }
    }
    float *const peaks = (float *)shared;  // [8][8]
    float *const sums = (float *)(shared + 256);  // [8][8]
    float *const parts = (float *)(shared + 512);  // [8][8][128]
    #pragma unroll
    for (int r = 0; r < 8; r++) {
        if (t % 16 == 0) {
            peaks[r * 8 + t / 16] = peak[r];
            sums[r * 8 + t / 16] = sum[r];
        }
        go::store(parts + r * 1024 + t * 8, out[r]);
    }
    __syncthreads();
    for (int i = 0; i < 8; i++) {
        float top;
        float total;
        float whole;
        top = -INFINITY;
        #pragma unroll
        for (int g = 0; g < 8; g++) {
            top = go::max(top, peaks[i * 8 + g]);
        }
        const float shift = top == -INFINITY ? 0.0f : top;
        total = 0.0f;
        whole = 0.0f;
        for (int g = 0; g < 8; g++) {
            const float weight = go::exp(peaks[i * 8 + g] - shift);
            total += sums[i * 8 + g] * weight;
            whole += parts[i * 1024 + g * 128 + t] * weight;
        }
        if (t == 0) {
            part_peaks[b * 8 + i] = top;
            part_sums[b * 8 + i] = total;
        }
        part_values[b * 1024 + i * 128 + t] = whole;
    }
}

__global__ void __launch_bounds__(128)
attention_of_eight_heads_1(
    go::bf16 *__restrict__ out0,
    float *__restrict__ part_peaks,
    float *__restrict__ part_sums,
    float *__restrict__ part_values)
{
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    float top;
    float total;
    float whole;
    top = -INFINITY;
    #pragma unroll
    for (int g = 0; g < 16; g++) {
        top = go::max(top, part_peaks[b / 8 * 128 + g * 8 + b % 8]);
    }
    const float shift = top == -INFINITY ? 0.0f : top;
    total = 0.0f;
    whole = 0.0f;
    for (int g = 0; g < 16; g++) {
        const float weight = go::exp(part_peaks[b / 8 * 128 + g * 8 + b % 8] - shift);
        total += part_sums[b / 8 * 128 + g * 8 + b % 8] * weight;
        whole += part_values[b / 8 * 16384 + g * 1024 + b % 8 * 128 + t] * weight;
    }
    out0[b * 128 + t] = go::to_bf16(whole * (total == 0.0f ? 0.0f : 1.0f / total));
}

extern "C" int attention_of_eight_heads_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const go::bf16 *>(p[0]);
    auto *const in1 = static_cast<const go::bf16 *>(p[1]);
    auto *const in2 = static_cast<const go::bf16 *>(p[2]);
    auto *const out0 = static_cast<go::bf16 *>(p[3]);
    auto *const part_peaks = (float *)(static_cast<char *>(p[4]));
    auto *const part_sums = (float *)(static_cast<char *>(p[4]) + 4096);
    auto *const part_values = (float *)(static_cast<char *>(p[4]) + 8192);
    if (const int error = go::launch(attention_of_eight_heads_0, 128, 128, 33280, stream, in0, in1, in2, part_peaks, part_sums, part_values)) return error;
    return go::launch(attention_of_eight_heads_1, 64, 128, 0, stream, out0, part_peaks, part_sums, part_values);
}
