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
    float *const q = (float *)shared;  // [64][68]
    float *const k = (float *)(shared + 17408);  // [64][68]
    float *const v = (float *)(shared + 34816);  // [64][68]
    float *const p_2 = (float *)(shared + 52224);  // [64][68]
    float score[8][4];
    go::vec<float, 4> out[8][1];
    float peak[8];
    float own[8];
    float top[8];
    float sum[8];
    float total[8];
    #pragma unroll
    for (int u = 0; u < 8; u++) {
        const int i = u * 128 + t;
        const int x = b % 8 * 64 + i / 16;
        go::store(q + i / 16 * 68 + i % 16 * 4, go::to_float(go::load<4>(in0 + b / 8 * 32768 + x * 64 + i % 16 * 4)));
    }
    #pragma unroll
    for (int i = 0; i < 8; i++) {
        peak[i] = -INFINITY;
        sum[i] = 0.0f;
        out[i][0] = go::splat<4>(0.0f);
    }
    for (int n = 0; n < 8; n++) {
        if (n * 64 <= b % 8 * 64 + 63) {
            #pragma unroll
            for (int u = 0; u < 8; u++) {
                const int i = u * 128 + t;
                const int x = n * 64 + i / 16;
                go::store(k + i / 16 * 68 + i % 16 * 4, go::to_float(go::load<4>(in1 + b / 8 * 32768 + x * 64 + i % 16 * 4)));
            }
            __syncthreads();
            #pragma unroll
            for (int u = 0; u < 8; u++) {
                const int i = u * 128 + t;
                const int x = n * 64 + i / 16;
                go::store(v + i / 16 * 68 + i % 16 * 4, go::to_float(go::load<4>(in2 + b / 8 * 32768 + x * 64 + i % 16 * 4)));
            }
            __syncthreads();
            #pragma unroll
            for (int i = 0; i < 8; i++) {
                #pragma unroll
                for (int j = 0; j < 4; j++) {
                    score[i][j] = 0.0f;
                }
            }
            for (int d = 0; d < 16; d++) {
                float x[8][4];
                #pragma unroll
                for (int i = 0; i < 8; i++) {
                    go::spread(&x[i][0], go::read<4>(q + i * 544 + t / 16 * 68 + d * 4));
                }
                float w[4][4];
                #pragma unroll
                for (int j = 0; j < 4; j++) {
                    go::spread(&w[j][0], go::read<4>(k + j * 1088 + t % 16 * 68 + d * 4));
                }
                #pragma unroll
                for (int i = 0; i < 8; i++) {
                    #pragma unroll
                    for (int j = 0; j < 4; j++) {
                        #pragma unroll
                        for (int l = 0; l < 4; l++) {
                            score[i][j] += x[i][l] * w[j][l];
                        }
                    }
                }
            }
            #pragma unroll
            for (int i = 0; i < 8; i++) {
                own[i] = -INFINITY;
                #pragma unroll
                for (int j = 0; j < 4; j++) {
                    score[i][j] = n * 64 + j * 16 + t % 16 <= b % 8 * 64 + i * 8 + t / 16 ? score[i][j] * 0.125f : -INFINITY;
                    own[i] = go::max(own[i], score[i][j]);
                }
            }
            #pragma unroll
            for (int i = 0; i < 8; i++) {
                top[i] = go::warp_reduce<go::most, 16>(own[i]);
            }
            #pragma unroll
            for (int i = 0; i < 8; i++) {
                const float row_peak = go::max(peak[i], top[i]);
                const float shift = row_peak == -INFINITY ? 0.0f : row_peak;
                const float scale = go::exp(peak[i] - shift);
                peak[i] = row_peak;
                sum[i] *= scale;
                out[i][0] = out[i][0] * scale;
                #pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float weight = go::exp(score[i][j] - shift);
                    sum[i] += weight;
                    p_2[i * 544 + t / 16 * 68 + j * 16 + t % 16] = weight;
                }
            }
            __syncthreads();
            for (int key = 0; key < 16; key++) {
                float x[8][4];
                #pragma unroll
                for (int i = 0; i < 8; i++) {
                    go::spread(&x[i][0], go::read<4>(p_2 + i * 544 + t / 16 * 68 + key * 4));
                }
                #pragma unroll
                for (int l = 0; l < 4; l++) {
                    go::vec<float, 4> w;
                    w = go::read<4>(v + key * 272 + l * 68 + t % 16 * 4);
                    #pragma unroll
                    for (int i = 0; i < 8; i++) {
                        out[i][0] += x[i][l] * w;
                    }
                }
            }
        }
    }
    #pragma unroll
    for (int i = 0; i < 8; i++) {
        total[i] = go::warp_reduce<go::add, 16>(sum[i]);
    }
    #pragma unroll
    for (int i = 0; i < 8; i++) {
        const float row_total = total[i];
        const float inverse = row_total == 0.0f ? 0.0f : 1.0f / row_total;
        const int m = b % 8 * 64 + i * 8 + t / 16;
        go::store(out0 + b / 8 * 32768 + m * 64 + t % 16 * 4, go::to_f16(out[i][0] * inverse));
    }
}

extern "C" int attention_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const go::f16 *>(p[0]);
    auto *const in1 = static_cast<const go::f16 *>(p[1]);
    auto *const in2 = static_cast<const go::f16 *>(p[2]);
    auto *const out0 = static_cast<go::f16 *>(p[3]);
    return go::launch(attention, 64, 128, 69632, stream, in0, in1, in2, out0);
}
