"""The built-in passes. This manifest names them; nothing is imported until one is used."""

from graphopt.plugins import Plugin

PLUGIN = Plugin(
    api=1,
    passes={
        "absorb-expands": "graphopt_passes.simplify.absorb_expands:AbsorbExpands",
        "assign-layouts": "graphopt_passes.layout.assign_layouts:AssignLayouts",
        "batch-frames": "graphopt_passes.products.batch_frames:BatchFrames",
        "cancel-casts": "graphopt_passes.simplify.cancel_casts:CancelCasts",
        "cancel-transposes": "graphopt_passes.simplify.cancel_transposes:CancelTransposes",
        "cast-precision": "graphopt_passes.precision.cast_precision:CastPrecision",
        "choose-strassen": "graphopt_passes.algorithm.choose_strassen:ChooseStrassen",
        "choose-winograd": "graphopt_passes.algorithm.choose_winograd:ChooseWinograd",
        "clip-windows": "graphopt_passes.legalize.clip_windows:ClipWindows",
        "compose-pads": "graphopt_passes.simplify.compose_pads:ComposePads",
        "compose-products": "graphopt_passes.products.compose_products:ComposeProducts",
        "compose-slices": "graphopt_passes.simplify.compose_slices:ComposeSlices",
        "compose-views": "graphopt_passes.simplify.compose_views:ComposeViews",
        "decompose-batch-norm": "graphopt_passes.legalize.decompose_batch_norm:DecomposeBatchNorm",
        "decompose-conv-transpose": (
            "graphopt_passes.legalize.decompose_conv_transpose:DecomposeConvTranspose"
        ),
        "decompose-group-norm": "graphopt_passes.legalize.decompose_group_norm:DecomposeGroupNorm",
        "decompose-grouped-matmul": (
            "graphopt_passes.legalize.decompose_grouped_matmul:DecomposeGroupedMatmul"
        ),
        "decompose-pooling": "graphopt_passes.legalize.decompose_pooling:DecomposePooling",
        "decompose-resize": "graphopt_passes.legalize.decompose_resize:DecomposeResize",
        "drop-axes": "graphopt_passes.algorithm.drop_axes:DropAxes",
        "eliminate-common-subexpressions": (
            "graphopt_passes.simplify.eliminate_common_subexpressions:EliminateCommonSubexpressions"
        ),
        "eliminate-dead-code": "graphopt_passes.simplify.eliminate_dead_code:EliminateDeadCode",
        "eliminate-empties": "graphopt_passes.simplify.eliminate_empties:EliminateEmpties",
        "explicit-padding": "graphopt_passes.legalize.explicit_padding:ExplicitPadding",
        "fold-batchnorm": "graphopt_passes.fold.fold_batchnorm:FoldBatchnorm",
        "fold-bias": "graphopt_passes.fold.fold_bias:FoldBias",
        "fold-constants": "graphopt_passes.fold.fold_constants:FoldConstants",
        "fold-scale": "graphopt_passes.fold.fold_scale:FoldScale",
        "fuse": "graphopt_passes.fuse.fuse:Fuse",
        "fuse-strips": "graphopt_passes.fuse.fuse_strips:FuseStrips",
        "gather-to-slice": "graphopt_passes.simplify.gather_to_slice:GatherToSlice",
        "hoist-products": "graphopt_passes.products.hoist_products:HoistProducts",
        "join-concats": "graphopt_passes.memory.join_concats:JoinConcats",
        "linear-to-conv": "graphopt_passes.products.linear_to_conv:LinearToConv",
        "matmul-to-linear": "graphopt_passes.products.matmul_to_linear:MatmulToLinear",
        "merge-clamps": "graphopt_passes.simplify.merge_clamps:MergeClamps",
        "merge-parallel-products": (
            "graphopt_passes.products.merge_parallel_products:MergeParallelProducts"
        ),
        "pad-channels": "graphopt_passes.layout.pad_channels:PadChannels",
        "plan-memory": "graphopt_passes.memory.plan_memory:PlanMemory",
        "recognize-attention": "graphopt_passes.recognize.recognize_attention:RecognizeAttention",
        "recognize-gathered-matmul": (
            "graphopt_passes.recognize.recognize_gathered_matmul:RecognizeGatheredMatmul"
        ),
        "recognize-gelu": "graphopt_passes.recognize.recognize_gelu:RecognizeGelu",
        "recognize-rms-norm": "graphopt_passes.recognize.recognize_rms_norm:RecognizeRmsNorm",
        "recognize-silu": "graphopt_passes.recognize.recognize_silu:RecognizeSilu",
        "regroup-arithmetic": "graphopt_passes.simplify.regroup_arithmetic:RegroupArithmetic",
        "simplify-arithmetic": "graphopt_passes.simplify.simplify_arithmetic:SimplifyArithmetic",
        "simplify-attention": "graphopt_passes.simplify.simplify_attention:SimplifyAttention",
        "simplify-selects": "graphopt_passes.simplify.simplify_selects:SimplifySelects",
        "sink-concats": "graphopt_passes.move.sink_concats:SinkConcats",
        "sink-reshapes": "graphopt_passes.move.sink_reshapes:SinkReshapes",
        "sink-slices": "graphopt_passes.move.sink_slices:SinkSlices",
        "sink-views": "graphopt_passes.move.sink_views:SinkViews",
        "space-to-depth": "graphopt_passes.algorithm.space_to_depth:SpaceToDepth",
        "split-taps": "graphopt_passes.algorithm.split_taps:SplitTaps",
        "split-frames": "graphopt_passes.algorithm.split_frames:SplitFrames",
    },
    kernel_passes={
        "prefetch-streams": "graphopt_passes.vectorize.prefetch_streams:PrefetchStreams",
        "simplify-indices": "graphopt_passes.vectorize.simplify_indices:SimplifyIndices",
        "unroll-short-loops": "graphopt_passes.vectorize.unroll_short_loops:UnrollShortLoops",
        "vectorize-innermost": "graphopt_passes.vectorize.vectorize_innermost:VectorizeInnermost",
    },
    pipelines={
        "default": "graphopt_passes.pipelines:LEVELS",
        "kernels": "graphopt_passes.pipelines:KERNEL_LEVELS",
    },
)
