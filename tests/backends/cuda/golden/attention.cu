// attention, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(128)
attention(
    const go::f16 *__restrict__ in0,
    const go::f16 *__restrict__ in1,
    const go::f16 *__restrict__ in2,
    go::f16 *__restrict__ out0)
{
    GO_SHARED(shared);
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    go::f16 *const q = (go::f16 *)shared;  // [64][72]
    go::f16 *const k = (go::f16 *)(shared + 9216);  // [64][72]
    go::f16 *const v = (go::f16 *)(shared + 18432);  // [64][72]
    go::f16 *const p_2 = (go::f16 *)(shared + 27648);  // [64][72]
    float score[1][8][4];
    float out[1][8][4];
    float peak[2];
    float own[2];
    float top[2];
    float sum[2];
    float total[2];
    #pragma unroll
    for (int u = 0; u < 4; u++) {
        const int i = u * 128 + t;
        const int x = b % 8 * 64 + i / 8;
        go::copy_async<8>(q + i / 8 * 72 + i % 8 * 8, in0 + b / 8 * 32768 + x * 64 + i % 8 * 8);
    }
    #pragma unroll
    for (int i = 0; i < 2; i++) {
        peak[i] = -INFINITY;
        sum[i] = 0.0f;
        #pragma unroll
        for (int c = 0; c < 8; c++) {
            go::spread(&out[0][c][i * 2], go::splat<2>(0.0f));
        }
    }
    for (int n = 0; n < 8; n++) {
        if (n * 64 <= b % 8 * 64 + 63) {
            #pragma unroll
            for (int u = 0; u < 4; u++) {
                const int i = u * 128 + t;
                const int x = n * 64 + i / 8;
                go::copy_async<8>(k + i / 8 * 72 + i % 8 * 8, in1 + b / 8 * 32768 + x * 64 + i % 8 * 8);
            }
            go::wait_copies();
            __syncthreads();
            #pragma unroll
            for (int u = 0; u < 4; u++) {
                const int i = u * 128 + t;
                const int x = n * 64 + i / 8;
                go::copy_async<8>(v + i / 8 * 72 + i % 8 * 8, in2 + b / 8 * 32768 + x * 64 + i % 8 * 8);
            }
            #pragma unroll
            for (int i = 0; i < 2; i++) {
                #pragma unroll
                for (int j = 0; j < 16; j++) {
                    score[0][j / 2][i * 2 + j % 2] = 0.0f;
                }
            }
            #pragma unroll
            for (int kk = 0; kk < 4; kk++) {
                go::multiply_tiles(score, q + t / 32 * 1152 + kk * 16, 72, k + kk * 16, 72);
            }
            #pragma unroll
            for (int i = 0; i < 2; i++) {
                own[i] = -INFINITY;
                #pragma unroll
                for (int j = 0; j < 16; j++) {
                    score[0][j / 2][i * 2 + j % 2] = n * 64 + j / 2 * 8 + t % 32 % 4 * 2 + j % 2 <= b % 8 * 64 + t / 32 * 16 + i * 8 + t % 32 / 4 ? score[0][j / 2][i * 2 + j % 2] * 0.125f : -INFINITY;
                    own[i] = go::max(own[i], score[0][j / 2][i * 2 + j % 2]);
                }
            }
            #pragma unroll
            for (int i = 0; i < 2; i++) {
                top[i] = go::warp_reduce<go::most, 4>(own[i]);
            }
            #pragma unroll
            for (int i = 0; i < 2; i++) {
                const float row_peak = go::max(peak[i], top[i]);
                const float shift = row_peak == -INFINITY ? 0.0f : row_peak;
                const float scale = go::exp(peak[i] - shift);
                peak[i] = row_peak;
                sum[i] *= scale;
                #pragma unroll
                for (int c = 0; c < 8; c++) {
                    go::spread(&out[0][c][i * 2], go::neighbours<2>(&out[0][c][i * 2]) * scale);
                }
                #pragma unroll
                for (int j = 0; j < 16; j++) {
                    const float weight = go::exp(score[0][j / 2][i * 2 + j % 2] - shift);
                    sum[i] += weight;
                    p_2[t / 32 * 1152 + i * 576 + t % 32 / 4 * 72 + j / 2 * 8 + t % 32 % 4 * 2 + j % 2] = go::to_f16(weight);
                }
            }
            go::wait_copies();
            __syncthreads();
            #pragma unroll
            for (int kk = 0; kk < 4; kk++) {
                go::multiply_tiles_by_k(out, p_2 + t / 32 * 1152 + kk * 16, 72, v + kk * 1152, 72);
            }
        }
    }
    #pragma unroll
    for (int i = 0; i < 2; i++) {
        total[i] = go::warp_reduce<go::add, 4>(sum[i]);
    }
    #pragma unroll
    for (int i = 0; i < 2; i++) {
        const float row_total = total[i];
        const float inverse = row_total == 0.0f ? 0.0f : 1.0f / row_total;
        const int m = b % 8 * 64 + t / 32 * 16 + i * 8 + t % 32 / 4;
        #pragma unroll
        for (int c = 0; c < 8; c++) {
            go::store(out0 + b / 8 * 32768 + m * 64 + c * 8 + t % 32 % 4 * 2, go::to_f16(go::neighbours<2>(&out[0][c][i * 2]) * inverse));
        }
    }
}

extern "C" int attention_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const go::f16 *>(p[0]);
    auto *const in1 = static_cast<const go::f16 *>(p[1]);
    auto *const in2 = static_cast<const go::f16 *>(p[2]);
    auto *const out0 = static_cast<go::f16 *>(p[3]);
    return go::launch(attention, 64, 128, 36864, stream, in0, in1, in2, out0);
}
