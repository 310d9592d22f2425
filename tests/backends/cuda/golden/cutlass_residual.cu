#include "go_cutlass.h"

namespace cutlass_residual {

struct Shape {
    using Tile = go::Tile<128, 128, 64>;
    using Cluster = go::Cluster<1, 1>;
    using Schedule = go::Cooperative;
    using Scheduler = go::StreamK;
    using Factor = go::bf16;
    using Right = go::ColumnMajor;
    using Source = go::bf16;
    using Result = go::bf16;
};

using Tree =
    go::Compute<go::plus, Shape::Result,
        go::Source<go::bf16>,
        go::Compute<go::plus, float,
            go::Accumulator,
            go::Columns<Shape, go::bf16>>>;

using Product = go::Product<Shape, Tree>;

Product::Arguments arguments(void *const *p) {
    const Tree::Arguments tree = {{}, {{}, {go::read<go::bf16>(p[2])}, {}}, {}};
    Product::Arguments all{
        cutlass::gemm::GemmUniversalMode::kGemm,
        {512, 1024, 1024, 1},
        {go::read<Shape::Factor>(p[0]), {1024, {}, 0},
         go::read<Shape::Factor>(p[1]), {1024, {}, 0}},
        {tree, go::read<go::bf16>(p[3]), {1024, {}, 0},
         go::written<Shape::Result>(p[5]), {1024, {}, 0}},
        go::current_device()};
    all.scheduler.splits = 4;
    return all;
}

}  // namespace cutlass_residual

extern "C" int cutlass_residual_plan(size_t *workspace) {
    void *const p[6] = {};
    return cutlass_residual::Product::plan(cutlass_residual::arguments(p), workspace);
}

extern "C" int cutlass_residual_launch(go_stream stream, void *const *p) {
    return cutlass_residual::Product::launch(cutlass_residual::arguments(p), p[6], stream);
}
