// What generated products are written in where CUTLASS computes them: the collectives of Hopper
// (TMA, wgmma, specialised warps), the nodes of epilogue visitor trees, the launch. sm_90a alone.
#ifndef GO_CUTLASS_H
#define GO_CUTLASS_H

#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

#include "cutlass/cutlass.h"

#include "cute/tensor.hpp"
#include "cutlass/epilogue/collective/collective_builder.hpp"
#include "cutlass/epilogue/fusion/sm90_callbacks_tma_warpspecialized.hpp"
#include "cutlass/epilogue/thread/activation.h"
#include "cutlass/gemm/collective/collective_builder.hpp"
#include "cutlass/gemm/device/gemm_universal_adapter.h"
#include "cutlass/gemm/kernel/gemm_universal.hpp"
#include "cutlass/gemm/kernel/tile_scheduler.hpp"

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

// Of tiles: each block several, or parts of one.
using WholeTiles = cutlass::gemm::PersistentScheduler;
using StreamK = cutlass::gemm::StreamKScheduler;

// Trees: computed in f32, rounded once, by their root ------------------------------------------

namespace fusion = cutlass::epilogue::fusion;
namespace collective = cutlass::epilogue::collective;

using Accumulator = fusion::Sm90AccFetch;
using Scalar = fusion::Sm90ScalarBroadcast<float>;
template <class Element> using Source = fusion::Sm90SrcFetch<Element>;
template <class Shape, class Element>
using Columns = fusion::Sm90RowBroadcast<0, typename Shape::Tile, Element, float>;

// Tensors besides the source, through shared memory as that is.
template <class Shape, class Element> struct AuxiliaryLoad {
    using Epilogue = collective::detail::EpilogueDescriptor<
        typename Shape::Tile, collective::EpilogueTileAuto, typename Shape::Source,
        typename Shape::Result, typename Shape::Schedule::Epilogue>;
    using Load = collective::detail::AuxLoadDescriptor<Epilogue, RowMajor, Element>;
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

// Products -------------------------------------------------------------------------------------

// `Shape`: Tile, Cluster, Schedule, Scheduler; Factor, Right (how b lies), Source (void: none) and
// Result. Factors are multiplied as halves and added up in f32.
template <class Shape, class Tree> struct Product {
    template <class Element> static constexpr int aligned = 16 / sizeof(Element);
    using Result = typename Shape::Result;
    using Factor = typename Shape::Factor;
    using Filled = cute::conditional_t<cute::is_void_v<typename Shape::Source>, Result,
                                       typename Shape::Source>;

    using Epilogue = typename collective::CollectiveBuilder<
        cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, typename Shape::Tile,
        typename Shape::Cluster, collective::EpilogueTileAuto, float, float,
        typename Shape::Source, RowMajor, aligned<Filled>, Result, RowMajor, aligned<Result>,
        typename Shape::Schedule::Epilogue, Tree>::CollectiveOp;
    using Stages = cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(
        sizeof(typename Epilogue::SharedStorage))>;
    using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
        cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Factor, RowMajor, aligned<Factor>,
        Factor, typename Shape::Right, aligned<Factor>, float, typename Shape::Tile,
        typename Shape::Cluster, Stages, typename Shape::Schedule::Mainloop>::CollectiveOp;
    using Kernel = cutlass::gemm::kernel::GemmUniversal<cute::Shape<int, int, int, int>, Mainloop,
                                                        Epilogue, typename Shape::Scheduler>;
    using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;
    using Arguments = typename Gemm::Arguments;

    static int error_of(cutlass::Status status) {
        if (status == cutlass::Status::kSuccess) return cudaSuccess;
        const cudaError_t error = cudaGetLastError();
        return error != cudaSuccess ? error : cudaErrorInvalidValue;
    }

    // The bytes that the current device needs beside the tensors.
    static int plan(const Arguments &arguments, size_t *workspace) {
        *workspace = Gemm::get_workspace_size(arguments);
        return error_of(Gemm::can_implement(arguments));
    }

    // Clears the workspace where parts of tiles meet in it, and launches: nothing is allocated.
    static int launch(const Arguments &arguments, void *workspace, go_stream stream) {
        Gemm gemm;
        const cutlass::Status status = gemm.initialize(arguments, workspace, stream);
        return error_of(status == cutlass::Status::kSuccess ? gemm.run(stream) : status);
    }
};

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
