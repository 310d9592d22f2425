// What generated products and convolutions are written in where CUTLASS computes them: the
// collectives of Hopper (TMA, wgmma, specialised warps), the nodes of epilogue visitor trees, the
// launch. sm_90a alone.
#ifndef GO_CUTLASS_H
#define GO_CUTLASS_H

#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

#include <type_traits>

#include "cutlass/cutlass.h"

#include "cute/tensor.hpp"
#include "cutlass/epilogue/collective/collective_builder.hpp"
#include "cutlass/epilogue/fusion/sm90_callbacks_tma_warpspecialized.hpp"
#include "cutlass/epilogue/thread/activation.h"
#include "cutlass/gemm/collective/collective_builder.hpp"
#include "cutlass/gemm/device/gemm_universal_adapter.h"
#include "cutlass/gemm/kernel/gemm_universal.hpp"
#include "cutlass/gemm/kernel/tile_scheduler.hpp"

// They expect those above.
#include "cutlass/conv/collective/collective_builder.hpp"
#include "cutlass/conv/convnd_problem_shape.hpp"
#include "cutlass/conv/device/conv_universal_adapter.hpp"
#include "cutlass/conv/kernel/conv_universal.hpp"

typedef struct CUstream_st *go_stream;  // a cudaStream_t

namespace go {

using f16 = cutlass::half_t;
using bf16 = cutlass::bfloat16_t;
using RowMajor = cutlass::layout::RowMajor;
using ColumnMajor = cutlass::layout::ColumnMajor;

template <int M, int N, int K> using Tile = cute::Shape<cute::Int<M>, cute::Int<N>, cute::Int<K>>;
template <int M, int N> using Cluster = cute::Shape<cute::Int<M>, cute::Int<N>, cute::_1>;

// Two warp groups share a tile, or take one each in turns.
struct Cooperative {
    using Mainloop = cutlass::gemm::KernelTmaWarpSpecializedCooperative;
    using Epilogue = cutlass::epilogue::TmaWarpSpecializedCooperative;
};
struct Pingpong {
    using Mainloop = cutlass::gemm::KernelTmaWarpSpecializedPingpong;
    using Epilogue = cutlass::epilogue::TmaWarpSpecialized;
};
// One warp group, a tile for each block: what there is for convolutions.
struct OneTile {
    using Mainloop = cutlass::conv::KernelImplicitTmaWarpSpecializedSm90;
    using Epilogue = cutlass::epilogue::TmaWarpSpecialized;
};

// Of tiles: each block several, or parts of one.
using WholeTiles = cutlass::gemm::PersistentScheduler;
using StreamK = cutlass::gemm::StreamKScheduler;

// How things lie: in rows, unless a shape says how its left factor does. Then that is the right one's
// transpose, and all that the epilogue touches is turned as well: rows of what CUTLASS computes are
// columns of the product, of which there are more.
template <class Shape, class = void> struct Lies {
    using Left = RowMajor;
    using Stored = RowMajor;
};
template <class Shape> struct Lies<Shape, std::void_t<typename Shape::Left>> {
    using Left = typename Shape::Left;
    using Stored = ColumnMajor;
};

// Trees: computed in f32, rounded once, by their root ------------------------------------------

namespace fusion = cutlass::epilogue::fusion;
namespace collective = cutlass::epilogue::collective;

using Accumulator = fusion::Sm90AccFetch;
using Scalar = fusion::Sm90ScalarBroadcast<float>;
template <class Element> using Source = fusion::Sm90SrcFetch<Element>;
template <class Shape, class Element>
using Columns = fusion::Sm90RowBroadcast<0, typename Shape::Tile, Element, float>;

// The same of a product that is turned.
template <class Shape, class Element>
using TurnedColumns = fusion::Sm90ColBroadcast<0, typename Shape::Tile, Element, float>;

// Tensors besides the source, through shared memory as that is.
template <class Shape, class Element> struct AuxiliaryLoad {
    using Epilogue = collective::detail::EpilogueDescriptor<
        typename Shape::Tile, collective::EpilogueTileAuto, typename Shape::Source,
        typename Shape::Result, typename Shape::Schedule::Epilogue>;
    using Load = collective::detail::AuxLoadDescriptor<Epilogue, typename Lies<Shape>::Stored,
                                                       Element>;
    using Node = fusion::Sm90AuxLoad<Load::Stages, typename Load::EpilogueTile, Element,
                                     typename Load::Stride, typename Load::SmemLayoutAtom,
                                     typename Load::CopyOpS2R>;
};
template <class Shape, class Element>
using Auxiliary = typename AuxiliaryLoad<Shape, Element>::Node;

template <template <class> class Function, class Result, class... Operands>
using Compute = fusion::Sm90EVT<
    fusion::Sm90Compute<Function, Result, float, cutlass::FloatRoundStyle::round_to_nearest>,
    Operands...>;

using cutlass::minus;
using cutlass::multiplies;
using cutlass::plus;
template <class T> using identity = cutlass::epilogue::thread::Identity<T>;
template <class T> using relu = cutlass::epilogue::thread::ReLu<T>;
template <class T> using gelu = cutlass::epilogue::thread::GELU<T>;
template <class T> using silu = cutlass::epilogue::thread::SiLu<T>;
template <class T> using sigmoid = cutlass::epilogue::thread::Sigmoid<T>;
// By the units' tanh, which is off by 2^-11: half a unit in the last place of f16.
template <class T> using tanh = cutlass::epilogue::thread::Tanh<T>;
template <class T> using gelu_tanh = cutlass::epilogue::thread::GELU_taylor<T>;

// Launches -------------------------------------------------------------------------------------

template <class Device> struct Launched {
    using Arguments = typename Device::Arguments;

    static int error_of(cutlass::Status status) {
        if (status == cutlass::Status::kSuccess) return cudaSuccess;
        const cudaError_t error = cudaGetLastError();
        return error != cudaSuccess ? error : cudaErrorInvalidValue;
    }

    // The bytes that the current device needs beside the tensors.
    static int plan(const Arguments &arguments, size_t *workspace) {
        *workspace = Device::get_workspace_size(arguments);
        return error_of(Device::can_implement(arguments));
    }

    // Clears the workspace where parts of tiles meet in it, and launches: nothing is allocated.
    static int launch(const Arguments &arguments, void *workspace, go_stream stream) {
        Device device;
        const cutlass::Status status = device.initialize(arguments, workspace, stream);
        return error_of(status == cutlass::Status::kSuccess ? device.run(stream) : status);
    }
};

// `Shape`: Tile, Cluster, Schedule, Source (void: none) and Result.
template <class Element> constexpr int aligned = 16 / sizeof(Element);
template <class Shape> struct Stored {
    using Result = typename Shape::Result;
    using Layout = typename Lies<Shape>::Stored;
    using Filled = cute::conditional_t<cute::is_void_v<typename Shape::Source>, Result,
                                       typename Shape::Source>;
    template <class Tree>
    using Epilogue = typename collective::CollectiveBuilder<
        cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, typename Shape::Tile,
        typename Shape::Cluster, collective::EpilogueTileAuto, float, float,
        typename Shape::Source, Layout, aligned<Filled>, Result, Layout, aligned<Result>,
        typename Shape::Schedule::Epilogue, Tree>::CollectiveOp;
};

// Products -------------------------------------------------------------------------------------

// `Shape`: Scheduler, Factor and Right (how b lies), too; Left where it is turned. Factors are multiplied as halves and
// added up in f32.
template <class Shape, class Tree> struct ProductTypes {
    using Factor = typename Shape::Factor;
    using Epilogue = typename Stored<Shape>::template Epilogue<Tree>;
    using Stages = cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(
        sizeof(typename Epilogue::SharedStorage))>;
    using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
        cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Factor, typename Lies<Shape>::Left,
        aligned<Factor>, Factor, typename Shape::Right, aligned<Factor>, float, typename Shape::Tile,
        typename Shape::Cluster, Stages, typename Shape::Schedule::Mainloop>::CollectiveOp;
    using Kernel = cutlass::gemm::kernel::GemmUniversal<cute::Shape<int, int, int, int>, Mainloop,
                                                        Epilogue, typename Shape::Scheduler>;
    using Device = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;
};
template <class Shape, class Tree>
using Product = Launched<typename ProductTypes<Shape, Tree>::Device>;

// Convolutions ---------------------------------------------------------------------------------

// An epilogue of a matrix whose rows are the pixels of all images, which lie dense. CUTLASS's own
// for convolutions has pixels as (q, p, n), and no tensors in trees besides the source.
template <class Epilogue> struct PixelRows : Epilogue {
    using Epilogue::Epilogue;
    using Arguments = typename Epilogue::Arguments;

    template <class Problem> static auto rows(const Problem &problem) {
        return cute::make_shape(static_cast<int>(cute::size(cute::get<0>(problem))),
                                static_cast<int>(cute::get<1>(problem)), 1, 1);
    }
    template <class Problem>
    static auto to_underlying_arguments(const Problem &problem, const Arguments &arguments,
                                        void *workspace) {
        return Epilogue::to_underlying_arguments(rows(problem), arguments, workspace);
    }
    template <class Problem>
    static bool can_implement(const Problem &problem, const Arguments &arguments) {
        return Epilogue::can_implement(rows(problem), arguments);
    }
};

constexpr auto forward = cutlass::conv::Operator::kFprop;
using Problem = cutlass::conv::ConvProblemShape<forward, 2>;

// `Shape`: Factor, too; a step of its tile are channels of one pixel of a filter. Images are
// [n, h, w, c], filters [o, r, s, c].
template <class Shape, class Tree> struct ConvolutionTypes {
    using Images = cutlass::layout::TensorNHWC;
    using Factor = typename Shape::Factor;
    using Steps = cute::Shape<cute::tuple_element_t<2, typename Shape::Tile>>;
    using Tile = decltype(cute::replace<2>(typename Shape::Tile{}, Steps{}));
    using Epilogue = PixelRows<typename Stored<Shape>::template Epilogue<Tree>>;
    using Stages = cutlass::conv::collective::StageCountAutoCarveout<static_cast<int>(
        sizeof(typename Epilogue::SharedStorage))>;
    using Mainloop = typename cutlass::conv::collective::CollectiveBuilder<
        cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, forward, Factor, Images,
        aligned<Factor>, Factor, Images, aligned<Factor>, float, Tile, typename Shape::Cluster,
        Stages, typename Shape::Schedule::Mainloop>::CollectiveOp;
    using Kernel = cutlass::conv::kernel::ConvUniversal<Problem, Mainloop, Epilogue, WholeTiles>;
    using Device = cutlass::conv::device::ConvUniversalAdapter<Kernel>;
};
template <class Shape, class Tree>
using Convolution = Launched<typename ConvolutionTypes<Shape, Tree>::Device>;

// Two integers each are of the rows of pixels and of the pixels in a row.
using Two = cute::array<int, 2>;
inline Problem convolved(cute::array<int, 4> images, cute::array<int, 4> filters, Two padding,
                         Two stride, Two dilation) {
    return {cutlass::conv::Mode::kCrossCorrelation, images, filters, padding, padding, stride,
            dilation, 1};
}

template <class Element> const Element *read(const void *p) {
    return static_cast<const Element *>(p);
}
template <class Element> Element *written(void *p) { return static_cast<Element *>(p); }

inline cutlass::KernelHardwareInfo current_device() {
    cutlass::KernelHardwareInfo info;
    cudaGetDevice(&info.device_id);
    cudaDeviceGetAttribute(&info.sm_count, cudaDevAttrMultiProcessorCount, info.device_id);
    return info;
}

}  // namespace go

#endif
