#include "go_cutlass.h"

namespace cutlass_conv_residual {

struct Shape {
    using Tile = go::Tile<64, 64, 64>;
    using Cluster = go::Cluster<1, 1>;
    using Schedule = go::OneTile;
    using Factor = go::f16;
    using Source = go::f16;
    using Result = go::f16;
};

using Tree =
    go::Compute<go::relu, Shape::Result,
        go::Compute<go::plus, float,
            go::Compute<go::plus, float,
                go::Accumulator,
                go::Columns<Shape, go::f16>>,
            go::Source<go::f16>>>;

using Convolution = go::Convolution<Shape, Tree>;

Convolution::Arguments arguments(void *const *p) {
    const Tree::Arguments tree = {{{{}, {go::read<go::f16>(p[5])}, {}}, {}, {}}, {}};
    return {
        go::convolved({2, 14, 14, 64}, {128, 3, 3, 64},
                      {1, 1}, {1, 1},
                      {1, 1}),
        {go::read<Shape::Factor>(p[0]), go::read<Shape::Factor>(p[4])},
        {tree, go::read<go::f16>(p[1]), {128, {}, 0},
         go::written<Shape::Result>(p[6]), {128, {}, 0}},
        go::current_device()};
}

}  // namespace cutlass_conv_residual

extern "C" int cutlass_conv_residual_plan(size_t *workspace) {
    void *const p[7] = {};
    return cutlass_conv_residual::Convolution::plan(cutlass_conv_residual::arguments(p), workspace);
}

extern "C" int cutlass_conv_residual_launch(go_stream stream, void *const *p) {
    return cutlass_conv_residual::Convolution::launch(cutlass_conv_residual::arguments(p), p[7], stream);
}
