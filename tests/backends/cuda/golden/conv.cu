// conv, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(128)
conv(const float *__restrict__ in0, const float *__restrict__ in1, float *__restrict__ out0)
{
    GO_SHARED(shared);
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    float *const left0 = (float *)shared;  // [8][68]
    float *const left1 = (float *)(shared + 2176);  // [8][68]
    float *const right0 = (float *)(shared + 4352);  // [8][36]
    float *const right1 = (float *)(shared + 5504);  // [8][36]
    go::vec<float, 4> acc[4][1];
    float left_next[1][4];
    #pragma unroll
    for (int i = 0; i < 4; i++) {
        acc[i][0] = go::splat<4>(0.0f);
    }
    {
        const int left_p = b / 2 * 64 + t / 2;
        const int left_k = t % 2;
        go::spread(&left_next[0][0], go::load<4>(in0 + left_p / 784 * 57600 + left_p / 28 % 28 * 1920 + left_p % 28 * 64 + left_k * 4));
    }
    if (t < 64) {
        const int right_p = b % 2 * 8 + t % 8;
        const int right_k = t / 8;
        go::copy_async<4>(right0 + t / 8 * 36 + t % 8 * 4, in1 + right_k * 64 + right_p * 4);
    }
    #pragma unroll
    for (int l = 0; l < 4; l++) {
        left0[t % 2 * 272 + l * 68 + t / 2] = left_next[0][l];
    }
    for (int s = 0; s < 36; s++) {
        {
            const int left_p = b / 2 * 64 + t / 2;
            const int left_k = s * 4 + t % 2 + 2;
            if (left_k < 144) {
                go::spread(&left_next[0][0], go::load<4>(in0 + left_p / 784 * 57600 + left_p / 28 % 28 * 1920 + left_k / 48 * 1920 + left_p % 28 * 64 + left_k % 48 * 4));
            } else {
                go::spread(&left_next[0][0], go::splat<4>(0.0f));
            }
        }
        go::wait_copies();
        __syncthreads();
        if (t < 64) {
            const int right_p = b % 2 * 8 + t % 8;
            const int right_k = s * 16 + t / 8 + 8;
            if (right_k < 576) {
                go::copy_async<4>(right1 + t / 8 * 36 + t % 8 * 4, in1 + right_k * 64 + right_p * 4);
            } else {
                go::store(right1 + t / 8 * 36 + t % 8 * 4, go::splat<4>(0.0f));
            }
        }
        #pragma unroll
        for (int kk = 0; kk < 8; kk++) {
            float x[4];
            go::spread(&x[0], go::read<4>(left0 + kk * 68 + t / 8 * 4));
            go::vec<float, 4> w[1];
            w[0] = go::read<4>(right0 + kk * 36 + t % 8 * 4);
            #pragma unroll
            for (int i = 0; i < 4; i++) {
                acc[i][0] += x[i] * w[0];
            }
        }
        #pragma unroll
        for (int l = 0; l < 4; l++) {
            left1[t % 2 * 272 + l * 68 + t / 2] = left_next[0][l];
        }
        {
            const int left_p = b / 2 * 64 + t / 2;
            const int left_k = s * 4 + t % 2 + 4;
            if (left_k < 144) {
                go::spread(&left_next[0][0], go::load<4>(in0 + left_p / 784 * 57600 + left_p / 28 % 28 * 1920 + left_k / 48 * 1920 + left_p % 28 * 64 + left_k % 48 * 4));
            } else {
                go::spread(&left_next[0][0], go::splat<4>(0.0f));
            }
        }
        go::wait_copies();
        __syncthreads();
        if (t < 64) {
            const int right_p = b % 2 * 8 + t % 8;
            const int right_k = s * 16 + t / 8 + 16;
            if (right_k < 576) {
                go::copy_async<4>(right0 + t / 8 * 36 + t % 8 * 4, in1 + right_k * 64 + right_p * 4);
            } else {
                go::store(right0 + t / 8 * 36 + t % 8 * 4, go::splat<4>(0.0f));
            }
        }
        #pragma unroll
        for (int kk = 0; kk < 8; kk++) {
            float x[4];
            go::spread(&x[0], go::read<4>(left1 + kk * 68 + t / 8 * 4));
            go::vec<float, 4> w[1];
            w[0] = go::read<4>(right1 + kk * 36 + t % 8 * 4);
            #pragma unroll
            for (int i = 0; i < 4; i++) {
                acc[i][0] += x[i] * w[0];
            }
        }
        #pragma unroll
        for (int l = 0; l < 4; l++) {
            left0[t % 2 * 272 + l * 68 + t / 2] = left_next[0][l];
        }
    }
    #pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = b / 2 * 64 + t / 8 * 4 + i;
        const int column = b % 2 * 8 + t % 8;
        go::store(out0 + row * 64 + column * 4, acc[i][0]);
    }
}

extern "C" int conv_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const float *>(p[0]);
    auto *const in1 = static_cast<const float *>(p[1]);
    auto *const out0 = static_cast<float *>(p[2]);
    return go::launch(conv, 98, 128, 6656, stream, in0, in1, out0);
}
