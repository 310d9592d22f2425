// attention_of_256, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(128)
attention_of_256(
    const float *__restrict__ in0,
    const float *__restrict__ in1,
    const float *__restrict__ in2,
    float *__restrict__ out0)
{
    GO_SHARED(shared);
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    float *const q = (float *)shared;  // [32][260]
    float *const k = (float *)(shared + 33280);  // [64][260]
    float *const v = (float *)(shared + 99840);  // [64][260]
    float *const p_2 = (float *)(shared + 166400);  // [32][68]
    float score[4][4];
    go::vec<float, 4> out[4][4];
    float peak[4];
    float own[4];
    float top[4];
    float sum[4];
    float total[4];
    for (int u = 0; u < 16; u++) {
        const int i = u * 128 + t;
        const int x = b % 16 * 32 + i / 64;
        go::copy_async<4>(q + i / 64 * 260 + i % 64 * 4, in0 + b / 16 * 131072 + x * 256 + i % 64 * 4);
    }
    #pragma unroll
    for (int i = 0; i < 4; i++) {
        peak[i] = -INFINITY;
        sum[i] = 0.0f;
        #pragma unroll
        for (int c = 0; c < 4; c++) {
            out[i][c] = go::splat<4>(0.0f);
        }
    }
    for (int n = 0; n < 8; n++) {
        if (n * 64 <= b % 16 * 32 + 31) {
            for (int u = 0; u < 32; u++) {
                const int i = u * 128 + t;
                const int x = n * 64 + i / 64;
                go::copy_async<4>(k + i / 64 * 260 + i % 64 * 4, in1 + b / 16 * 131072 + x * 256 + i % 64 * 4);
            }
            go::wait_copies();
            __syncthreads();
            for (int u = 0; u < 32; u++) {
                const int i = u * 128 + t;
                const int x = n * 64 + i / 64;
                go::copy_async<4>(v + i / 64 * 260 + i % 64 * 4, in2 + b / 16 * 131072 + x * 256 + i % 64 * 4);
            }
            #pragma unroll
            for (int i = 0; i < 4; i++) {
                #pragma unroll
                for (int j = 0; j < 4; j++) {
                    score[i][j] = 0.0f;
                }
            }
            for (int d = 0; d < 64; d++) {
                float x[4][4];
                #pragma unroll
                for (int i = 0; i < 4; i++) {
                    go::spread(&x[i][0], go::read<4>(q + i * 2080 + t / 16 * 260 + d * 4));
                }
                float w[4][4];
                #pragma unroll
                for (int j = 0; j < 4; j++) {
                    go::spread(&w[j][0], go::read<4>(k + j * 4160 + t % 16 * 260 + d * 4));
                }
                #pragma unroll
                for (int i = 0; i < 4; i++) {
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
            for (int i = 0; i < 4; i++) {
                own[i] = -INFINITY;
                #pragma unroll
                for (int j = 0; j < 4; j++) {
                    score[i][j] = n * 64 + j * 16 + t % 16 <= b % 16 * 32 + i * 8 + t / 16 ? score[i][j] * 0.0625f : -INFINITY;
                    own[i] = go::max(own[i], score[i][j]);
                }
            }
            #pragma unroll
            for (int i = 0; i < 4; i++) {
                top[i] = go::warp_reduce<go::most, 16>(own[i]);
            }
            #pragma unroll
            for (int i = 0; i < 4; i++) {
                const float row_peak = go::max(peak[i], top[i]);
                const float shift = row_peak == -INFINITY ? 0.0f : row_peak;
                const float scale = go::exp(peak[i] - shift);
                peak[i] = row_peak;
                sum[i] *= scale;
                #pragma unroll
                for (int c = 0; c < 4; c++) {
                    out[i][c] = out[i][c] * scale;
                }
                #pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float weight = go::exp(score[i][j] - shift);
                    sum[i] += weight;
                    p_2[i * 544 + t / 16 * 68 + j * 16 + t % 16] = weight;
                }
            }
            go::wait_copies();
            __syncthreads();
            for (int key = 0; key < 16; key++) {
                float x[4][4];
                #pragma unroll
                for (int i = 0; i < 4; i++) {
                    go::spread(&x[i][0], go::read<4>(p_2 + i * 544 + t / 16 * 68 + key * 4));
                }
                #pragma unroll
                for (int l = 0; l < 4; l++) {
                    #pragma unroll
                    for (int c = 0; c < 4; c++) {
                        go::vec<float, 4> w;
                        w = go::read<4>(v + key * 1040 + l * 260 + c * 64 + t % 16 * 4);
                        #pragma unroll
                        for (int i = 0; i < 4; i++) {
                            out[i][c] += x[i][l] * w;
                        }
                    }
                }
            }
        }
    }
    #pragma unroll
    for (int i = 0; i < 4; i++) {
        total[i] = go::warp_reduce<go::add, 16>(sum[i]);
    }
    #pragma unroll
    for (int i = 0; i < 4; i++) {
        const float row_total = total[i];
        const float inverse = row_total == 0.0f ? 0.0f : 1.0f / row_total;
        const int m = b % 16 * 32 + i * 8 + t / 16;
        #pragma unroll
        for (int c = 0; c < 4; c++) {
            go::store(out0 + b / 16 * 131072 + m * 256 + c * 64 + t % 16 * 4, out[i][c] * inverse);
        }
    }
}

extern "C" int attention_of_256_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const float *>(p[0]);
    auto *const in1 = static_cast<const float *>(p[1]);
    auto *const in2 = static_cast<const float *>(p[2]);
    auto *const out0 = static_cast<float *>(p[3]);
    return go::launch(attention_of_256, 128, 128, 175104, stream, in0, in1, in2, out0);
}
