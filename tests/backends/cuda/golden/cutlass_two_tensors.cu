#include "go_cutlass.h"

namespace cutlass_two_tensors {

struct Shape {
    using Tile = go::Tile<64, 64, 64>;
    using Cluster = go::Cluster<1, 1>;
    using Schedule = go::Pingpong;
    using Scheduler = go::WholeTiles;
    using Factor = go::f16;
    using Right = go::ColumnMajor;
    using Source = go::f16;
    using Result = go::f16;
};

using Tree =
    go::Compute<go::minus, Shape::Result,
        go::Compute<go::multiplies, float,
            go::Compute<go::sigmoid, float,
                go::Accumulator>,
            go::Source<go::f16>>,
        go::Auxiliary<Shape, go::f16>>;

using Product = go::Product<Shape, Tree>;

Product::Arguments arguments(void *const *p) {
    const Tree::Arguments tree = {
        {{{}, {}}, {}, {}},
        {go::read<go::f16>(p[4]), go::f16(0), {256, {}, 0}}, {}};
    Product::Arguments all{
        cutlass::gemm::GemmUniversalMode::kGemm,
        {128, 256, 128, 1},
        {go::read<Shape::Factor>(p[0]), {128, {}, 0},
         go::read<Shape::Factor>(p[1]), {128, {}, 0}},
        {tree, go::read<go::f16>(p[3]), {256, {}, 0},
         go::written<Shape::Result>(p[5]), {256, {}, 0}},
        go::current_device()};
    return all;
}

}  // namespace cutlass_two_tensors

extern "C" int cutlass_two_tensors_plan(size_t *workspace) {
    void *const p[6] = {};
    return cutlass_two_tensors::Product::plan(cutlass_two_tensors::arguments(p), workspace);
}

extern "C" int cutlass_two_tensors_launch(go_stream stream, void *const *p) {
    return cutlass_two_tensors::Product::launch(cutlass_two_tensors::arguments(p), p[6], stream);
}
