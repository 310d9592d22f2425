// attention_in_parts_of_256, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(512)
attention_in_parts_of_256_0(
    const float *__restrict__ in0,
    const float *__restrict__ in1,
    const float *__restrict__ in2,
    float *__restrict__ part_peaks,
    float *__restrict__ part_sums,
    float *__restrict__ part_values)
{
    GO_SHARED(shared);
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    go::vec<float, 8> query[2];
    go::vec<float, 8> out[2];
    go::vec<float, 8> value[4];
    float own[2][4];
    float score[2][4];
    float peak[2];
    float sum[2];
    #pragma unroll
    for (int r = 0; r < 2; r++) {
        query[r] = go::load<8>(in0 + b / 16 * 512 + r * 256 + t % 32 * 8) * 0.0625f;
        out[r] = go::splat<8>(0.0f);
        peak[r] = -INFINITY;
        sum[r] = 0.0f;
    }
    for (int e = 0; e < 2; e++) {
        #pragma unroll
        for (int u = 0; u < 4; u++) {
            const int key = b % 16 * 128 + e * 64 + u * 16 + t / 32;
            const go::vec<float, 8> k = go::load<8>(in1 + b / 16 * 524288 + key * 256 + t % 32 * 8);
            #pragma unroll
            for (int r = 0; r < 2; r++) {
                own[r][u] = go::reduce<go::add>(query[r] * k);
            }
            value[u] = go::load<8>(in2 + b / 16 * 524288 + key * 256 + t % 32 * 8);
        }
        #pragma unroll
        for (int u = 0; u < 4; u++) {
            #pragma unroll
            for (int r = 0; r < 2; r++) {
                score[r][u] = go::warp_reduce<go::add, 32>(own[r][u]);
            }
        }
        #pragma unroll
        for (int r = 0; r < 2; r++) {
            float top;
            top = peak[r];
            #pragma unroll
            for (int u = 0; u < 4; u++) {
                top = go::max(top, score[r][u]);
            }
            const float shift = top == -INFINITY ? 0.0f : top;
            const float scale = go::exp(peak[r] - shift);
            peak[r] = top;
            sum[r] *= scale;
            out[r] = out[r] * scale;
            #pragma unroll
            for (int u = 0; u < 4; u++) {
                const float weight = go::exp(score[r][u] - shift);
                sum[r] += weight;
                out[r] += value[u] * weight;
            }
        }
    }
    float *const peaks = (float *)shared;  // [2][16]
    float *const sums = (float *)(shared + 128);  // [2][16]
    float *const parts = (float *)(shared + 256);  // [2][16][256]
    #pragma unroll
    for (int r = 0; r < 2; r++) {
        if (t % 32 == 0) {
            peaks[r * 16 + t / 32] = peak[r];
            sums[r * 16 + t / 32] = sum[r];
        }
        go::store(parts + r * 4096 + t * 8, out[r]);
    }
    __syncthreads();
    float top;
    float total;
    float whole;
    top = -INFINITY;
    #pragma unroll
    for (int g = 0; g < 16; g++) {
        top = go::max(top, peaks[t / 256 * 16 + g]);
    }
    const float shift = top == -INFINITY ? 0.0f : top;
    total = 0.0f;
    whole = 0.0f;
    for (int g = 0; g < 16; g++) {
        const float weight = go::exp(peaks[t / 256 * 16 + g] - shift);
        total += sums[t / 256 * 16 + g] * weight;
        whole += parts[t / 256 * 4096 + g * 256 + t % 256] * weight;
    }
    if (t % 256 == 0) {
        part_peaks[b * 2 + t / 256] = top;
        part_sums[b * 2 + t / 256] = total;
    }
    part_values[b * 512 + t] = whole;
}

__global__ void __launch_bounds__(256, 2)
attention_in_parts_of_256_1(
    float *__restrict__ out0,
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
        top = go::max(top, part_peaks[b / 2 * 32 + g * 2 + b % 2]);
    }
    const float shift = top == -INFINITY ? 0.0f : top;
    total = 0.0f;
    whole = 0.0f;
    for (int g = 0; g < 16; g++) {
        const float weight = go::exp(part_peaks[b / 2 * 32 + g * 2 + b % 2] - shift);
        total += part_sums[b / 2 * 32 + g * 2 + b % 2] * weight;
        whole += part_values[b / 2 * 8192 + g * 512 + b % 2 * 256 + t] * weight;
    }
    out0[b * 256 + t] = whole * (total == 0.0f ? 0.0f : 1.0f / total);
}

extern "C" int attention_in_parts_of_256_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const float *>(p[0]);
    auto *const in1 = static_cast<const float *>(p[1]);
    auto *const in2 = static_cast<const float *>(p[2]);
    auto *const out0 = static_cast<float *>(p[3]);
    auto *const part_peaks = (float *)(static_cast<char *>(p[4]));
    auto *const part_sums = (float *)(static_cast<char *>(p[4]) + 1024);
    auto *const part_values = (float *)(static_cast<char *>(p[4]) + 2048);
    if (const int error = go::launch(attention_in_parts_of_256_0, 128, 512, 33024, stream, in0, in1, in2, part_peaks, part_sums, part_values)) return error;
    return go::launch(attention_in_parts_of_256_1, 16, 256, 0, stream, out0, part_peaks, part_sums, part_values);
}
