// linear_f16, for sm_90a
//   computes encoder.layer.0 at model.py:12

#include "go_kernel.h"

__global__ void __launch_bounds__(256, 2)
linear_f16(
    const go::f16 *__restrict__ in0,
    const go::f16 *__restrict__ in1,
    const go::f16 *__restrict__ in2,
    go::f16 *__restrict__ out0)
{
    GO_SHARED(shared);
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    go::f16 *const left0 = (go::f16 *)shared;  // [128][40]
    go::f16 *const left1 = (go::f16 *)(shared + 10240);  // [128][40]
    go::f16 *const right0 = (go::f16 *)(shared + 20480);  // [128][40]
    go::f16 *const right1 = (go::f16 *)(shared + 30720);  // [128][40]
    float acc[4][4][4];
    #pragma unroll
    for (int i = 0; i < 4; i++) {
        #pragma unroll
        for (int j = 0; j < 4; j++) {
            go::spread(&acc[i][j][0], go::splat<4>(0.0f));
        }
    }
    #pragma unroll
    for (int u = 0; u < 2; u++) {
        const int left_p = b / 8 * 128 + u * 64 + t / 4;
        const int left_k = t % 4;
        go::copy_async<8>(left0 + u * 2560 + t / 4 * 40 + t % 4 * 8, in0 + left_p * 1024 + left_k * 8);
    }
    #pragma unroll
    for (int u = 0; u < 2; u++) {
        const int right_p = b % 8 * 128 + u * 64 + t / 4;
        const int right_k = t % 4;
        go::copy_async<8>(right0 + u * 2560 + t / 4 * 40 + t % 4 * 8, in1 + right_p * 1024 + right_k * 8);
    }
    for (int s = 0; s < 16; s++) {
        go::wait_copies();
        __syncthreads();
        #pragma unroll
        for (int u = 0; u < 2; u++) {
            const int left_p = b / 8 * 128 + u * 64 + t / 4;
            const int left_k = s * 8 + t % 4 + 4;
            if (left_k < 128) {
                go::copy_async<8>(left1 + u * 2560 + t / 4 * 40 + t % 4 * 8, in0 + left_p * 1024 + left_k * 8);
            } else {
                go::store(left1 + u * 2560 + t / 4 * 40 + t % 4 * 8, go::vec<go::f16, 8>{});
            }
        }
        #pragma unroll
        for (int u = 0; u < 2; u++) {
            const int right_p = b % 8 * 128 + u * 64 + t / 4;
            const int right_k = s * 8 + t % 4 + 4;
            if (right_k < 128) {
                go::copy_async<8>(right1 + u * 2560 + t / 4 * 40 + t % 4 * 8, in1 + right_p * 1024 + right_k * 8);
            } else {
                go::store(right1 + u * 2560 + t / 4 * 40 + t % 4 * 8, go::vec<go::f16, 8>{});
            }
        }
        #pragma unroll
        for (int kk = 0; kk < 2; kk++) {
            go::multiply_tiles(acc, left0 + t / 128 * 2560 + kk * 16, 40, right0 + t / 32 % 4 * 1280 + kk * 16, 40);
        }
        go::wait_copies();
        __syncthreads();
        #pragma unroll
        for (int u = 0; u < 2; u++) {
            const int left_p = b / 8 * 128 + u * 64 + t / 4;
            const int left_k = s * 8 + t % 4 + 8;
            if (left_k < 128) {
                go::copy_async<8>(left0 + u * 2560 + t / 4 * 40 + t % 4 * 8, in0 + left_p * 1024 + left_k * 8);
            } else {
                go::store(left0 + u * 2560 + t / 4 * 40 + t % 4 * 8, go::vec<go::f16, 8>{});
            }
        }
        #pragma unroll
        for (int u = 0; u < 2; u++) {
            const int right_p = b % 8 * 128 + u * 64 + t / 4;
            const int right_k = s * 8 + t % 4 + 8;
            if (right_k < 128) {
                go::copy_async<8>(right0 + u * 2560 + t / 4 * 40 + t % 4 * 8, in1 + right_p * 1024 + right_k * 8);
            } else {
                go::store(right0 + u * 2560 + t / 4 * 40 + t % 4 * 8, go::vec<go::f16, 8>{});
            }
        }
        #pragma unroll
        for (int kk = 0; kk < 2; kk++) {
            go::multiply_tiles(acc, left1 + t / 128 * 2560 + kk * 16, 40, right1 + t / 32 % 4 * 1280 + kk * 16, 40);
        }
    }
    #pragma unroll
    for (int i = 0; i < 4; i++) {
        #pragma unroll
        for (int j = 0; j < 4; j++) {
            #pragma unroll
            for (int r = 0; r < 2; r++) {
                const int row = b / 8 * 128 + t / 128 * 64 + i * 16 + r * 8 + t % 32 / 4;
                const int column = b % 8 * 64 + t / 32 % 4 * 16 + j * 4 + t % 32 % 4;
                const go::vec<float, 2> t0 = go::neighbours<2>(&acc[i][j][r * 2]) + go::to_float(go::load<2>(in2 + column * 2));
                go::store(out0 + row * 1024 + column * 2, go::to_f16(t0 * go::normal_cdf(t0)));
            }
        }
    }
}

extern "C" int linear_f16_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const go::f16 *>(p[0]);
    auto *const in1 = static_cast<const go::f16 *>(p[1]);
    auto *const in2 = static_cast<const go::f16 *>(p[2]);
    auto *const out0 = static_cast<go::f16 *>(p[3]);
    return go::launch(linear_f16, 128, 256, 40960, stream, in0, in1, in2, out0);
}
