// linear, for sm_90a
//   computes encoder.layer.0 at model.py:12

#include "go_kernel.h"

__global__ void __launch_bounds__(256, 2)
linear(
    const float *__restrict__ in0,
    const float *__restrict__ in1,
    const float *__restrict__ in2,
    float *__restrict__ out0)
{
    GO_SHARED(shared);
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    float *const left0 = (float *)shared;  // [8][132]
    float *const left1 = (float *)(shared + 4224);  // [8][132]
    float *const right0 = (float *)(shared + 8448);  // [8][132]
    float *const right1 = (float *)(shared + 12672);  // [8][132]
    go::vec<float, 4> acc[8][2];
    float left_next[1][4];
    #pragma unroll
    for (int i = 0; i < 8; i++) {
        #pragma unroll
        for (int q = 0; q < 2; q++) {
            acc[i][q] = go::splat<4>(0.0f);
        }
    }
    {
        const int left_p = b / 8 * 128 + t / 2;
        const int left_k = t % 2;
        go::spread(&left_next[0][0], go::load<4>(in0 + left_p * 1024 + left_k * 4));
    }
    {
        const int right_p = b % 8 * 32 + t % 32;
        const int right_k = t / 32;
        go::copy_async<4>(right0 + t / 32 * 132 + t % 32 * 4, in1 + right_k * 1024 + right_p * 4);
    }
    #pragma unroll
    for (int l = 0; l < 4; l++) {
        left0[t % 2 * 528 + l * 132 + t / 2] = left_next[0][l];
    }
    for (int s = 0; s < 64; s++) {
        {
            const int left_p = b / 8 * 128 + t / 2;
            const int left_k = s * 4 + t % 2 + 2;
            if (left_k < 256) {
                go::spread(&left_next[0][0], go::load<4>(in0 + left_p * 1024 + left_k * 4));
            } else {
                go::spread(&left_next[0][0], go::splat<4>(0.0f));
            }
        }
        go::wait_copies();
        __syncthreads();
        {
            const int right_p = b % 8 * 32 + t % 32;
            const int right_k = s * 16 + t / 32 + 8;
            if (right_k < 1024) {
                go::copy_async<4>(right1 + t / 32 * 132 + t % 32 * 4, in1 + right_k * 1024 + right_p * 4);
            } else {
                go::store(right1 + t / 32 * 132 + t % 32 * 4, go::splat<4>(0.0f));
            }
        }
        #pragma unroll
        for (int kk = 0; kk < 8; kk++) {
            float x[8];
            #pragma unroll
            for (int h = 0; h < 2; h++) {
                go::spread(&x[h * 4], go::read<4>(left0 + kk * 132 + t / 16 * 8 + h * 4));
            }
            go::vec<float, 4> w[2];
            #pragma unroll
            for (int q = 0; q < 2; q++) {
                w[q] = go::read<4>(right0 + kk * 132 + q * 64 + t % 16 * 4);
            }
            #pragma unroll
            for (int i = 0; i < 8; i++) {
                #pragma unroll
                for (int q = 0; q < 2; q++) {
                    acc[i][q] += x[i] * w[q];
                }
            }
        }
        #pragma unroll
        for (int l = 0; l < 4; l++) {
            left1[t % 2 * 528 + l * 132 + t / 2] = left_next[0][l];
        }
        {
            const int left_p = b / 8 * 128 + t / 2;
            const int left_k = s * 4 + t % 2 + 4;
            if (left_k < 256) {
                go::spread(&left_next[0][0], go::load<4>(in0 + left_p * 1024 + left_k * 4));
            } else {
                go::spread(&left_next[0][0], go::splat<4>(0.0f));
            }
        }
        go::wait_copies();
        __syncthreads();
        {
            const int right_p = b % 8 * 32 + t % 32;
            const int right_k = s * 16 + t / 32 + 16;
            if (right_k < 1024) {
                go::copy_async<4>(right0 + t / 32 * 132 + t % 32 * 4, in1 + right_k * 1024 + right_p * 4);
            } else {
                go::store(right0 + t / 32 * 132 + t % 32 * 4, go::splat<4>(0.0f));
            }
        }
        #pragma unroll
        for (int kk = 0; kk < 8; kk++) {
            float x[8];
            #pragma unroll
            for (int h = 0; h < 2; h++) {
                go::spread(&x[h * 4], go::read<4>(left1 + kk * 132 + t / 16 * 8 + h * 4));
            }
            go::vec<float, 4> w[2];
            #pragma unroll
            for (int q = 0; q < 2; q++) {
                w[q] = go::read<4>(right1 + kk * 132 + q * 64 + t % 16 * 4);
            }
            #pragma unroll
            for (int i = 0; i < 8; i++) {
                #pragma unroll
                for (int q = 0; q < 2; q++) {
                    acc[i][q] += x[i] * w[q];
                }
            }
        }
        #pragma unroll
        for (int l = 0; l < 4; l++) {
            left0[t % 2 * 528 + l * 132 + t / 2] = left_next[0][l];
        }
    }
    #pragma unroll
    for (int i = 0; i < 8; i++) {
        #pragma unroll
        for (int q = 0; q < 2; q++) {
            const int row = b / 8 * 128 + t / 16 * 8 + i;
            const int column = b % 8 * 32 + q * 16 + t % 16;
            const go::vec<float, 4> t0 = acc[i][q] + go::load<4>(in2 + column * 4);
            go::store(out0 + row * 1024 + column * 4, t0 * go::normal_cdf(t0));
        }
    }
}

extern "C" int linear_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const float *>(p[0]);
    auto *const in1 = static_cast<const float *>(p[1]);
    auto *const in2 = static_cast<const float *>(p[2]);
    auto *const out0 = static_cast<float *>(p[3]);
    return go::launch(linear, 128, 256, 16896, stream, in0, in1, in2, out0);
}
