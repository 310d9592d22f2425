#include "go_cutlass.h"

namespace cutlass_bias_gelu {

struct Shape {
    using Tile = go::Tile<128, 128, 64>;
    using Cluster = go::Cluster<1, 1>;
    using Schedule = go::Cooperative;
    using Scheduler = go::StreamK;
    using Factor = go::f16;
    using Right = go::ColumnMajor;
    using Source = void;
    using Result = go::f16;
};

using Tree =
    go::Compute<go::gelu_tanh, Shape::Result,
        go::Compute<go::plus, float,
            go::Accumulator,
            go::Columns<Shape, go::f16>>>;

using Product = go::Product<Shape, Tree>;

Product::Arguments arguments(void *const *p) {
    const Tree::Arguments tree = {{{}, {go::read<go::f16>(p[2])}, {}}, {}};
    Product::Arguments all{
        cutlass::gemm::GemmUniversalMode::kGemm,
        {128, 3072, 768, 1},
        {go::read<Shape::Factor>(p[0]), {768, {}, 0},
         go::read<Shape::Factor>(p[1]), {768, {}, 0}},
        {tree, nullptr, {3072, {}, 0},
         go::written<Shape::Result>(p[5]), {3072, {}, 0}},
        go::current_device()};
    return all;
}

}  // namespace cutlass_bias_gelu

extern "C" int cutlass_bias_gelu_plan(size_t *workspace) {
    void *const p[6] = {};
    return cutlass_bias_gelu::Product::plan(cutlass_bias_gelu::arguments(p), workspace);
}

extern "C" int cutlass_bias_gelu_launch(go_stream stream, void *const *p) {
    return cutlass_bias_gelu::Product::launch(cutlass_bias_gelu::arguments(p), p[6], stream);
}
