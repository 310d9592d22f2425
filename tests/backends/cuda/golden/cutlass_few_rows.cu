#include "go_cutlass.h"

namespace cutlass_few_rows {

struct Shape {
    using Tile = go::Tile<128, 16, 64>;
    using Cluster = go::Cluster<1, 1>;
    using Schedule = go::Cooperative;
    using Scheduler = go::StreamK;
    using Factor = go::f16;
    using Left = go::RowMajor;
    using Right = go::ColumnMajor;
    using Source = go::f16;
    using Result = go::f16;
};

using Tree =
    go::Compute<go::minus, Shape::Result,
        go::Compute<go::multiplies, float,
            go::Compute<go::sigmoid, float,
                go::Compute<go::plus, float,
                    go::Accumulator,
                    go::TurnedColumns<Shape, go::f16>>>,
            go::Source<go::f16>>,
        go::Auxiliary<Shape, go::f16>>;

using Product = go::Product<Shape, Tree>;

Product::Arguments arguments(void *const *p) {
    const Tree::Arguments tree = {
        {{{{}, {go::read<go::f16>(p[2])}, {}}, {}}, {}, {}},
        {go::read<go::f16>(p[4]), go::f16(0), {{}, 4096, 0}}, {}};
    Product::Arguments all{
        cutlass::gemm::GemmUniversalMode::kGemm,
        {4096, 16, 4096, 1},
        {go::read<Shape::Factor>(p[1]), {4096, {}, 0},
         go::read<Shape::Factor>(p[0]), {4096, {}, 0}},
        {tree, go::read<go::f16>(p[3]), {{}, 4096, 0},
         go::written<Shape::Result>(p[5]), {{}, 4096, 0}},
        go::current_device()};
    all.scheduler.splits = 4;
    return all;
}

}  // namespace cutlass_few_rows

extern "C" int cutlass_few_rows_plan(size_t *workspace) {
    void *const p[6] = {};
    return cutlass_few_rows::Product::plan(cutlass_few_rows::arguments(p), workspace);
}

extern "C" int cutlass_few_rows_launch(go_stream stream, void *const *p) {
    return cutlass_few_rows::Product::launch(cutlass_few_rows::arguments(p), p[6], stream);
}
