// gather, for sm_90a
//   computes <unknown>

#include "go_kernel.h"

__global__ void __launch_bounds__(128)
gather(const float *__restrict__ in0, const int64_t *__restrict__ in1, float *__restrict__ out0)
{
    const int b = blockIdx.x;
    const int t = threadIdx.x;
    const int i = b * 128 + t;
    const int64_t t0 = in1[i / 192];
    go::store(out0 + i * 4, go::load<4>(in0 + go::max<int64_t>(go::min<int64_t>(t0 < 0 ? t0 + 30522 : t0, 30521), 0) * 768 + i % 192 * 4));
}

extern "C" int gather_launch(go_stream stream, void *const *p)
{
    auto *const in0 = static_cast<const float *>(p[0]);
    auto *const in1 = static_cast<const int64_t *>(p[1]);
    auto *const out0 = static_cast<float *>(p[2]);
    return go::launch(gather, 384, 128, 0, stream, in0, in1, out0);
}
