// pointwise, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(128)
pointwise(const float *__restrict__ in0, const float *__restrict__ in1, float *__restrict__ out0)
{
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    const int i = b * 128 + t;
    const go::vec<float, 4> t0 = go::load<4>(in0 + i % 1024 * 4);
    go::store(out0 + i * 4, go::load<4>(in1 + i * 4) + t0 * go::logistic_cdf(t0));
}

extern "C" int pointwise_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const float *>(p[0]);
    auto *const in1 = static_cast<const float *>(p[1]);
    auto *const out0 = static_cast<float *>(p[2]);
    return go::launch(pointwise, 512, 128, 0, stream, in0, in1, out0);
}
