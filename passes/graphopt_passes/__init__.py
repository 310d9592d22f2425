"""The built-in graph passes. This manifest names them; nothing is imported until one is used."""

from graphopt.plugins import Plugin

PLUGIN = Plugin(
    api=1,
    passes={
        "assign-layouts": "graphopt_passes.layout.assign_layouts:AssignLayouts",
        "clip-windows": "graphopt_passes.legalize.clip_windows:ClipWindows",
        "decompose-batch-norm": "graphopt_passes.legalize.decompose_batch_norm:DecomposeBatchNorm",
        "decompose-conv-transpose": (
            "graphopt_passes.legalize.decompose_conv_transpose:DecomposeConvTranspose"
        ),
        "decompose-pooling": "graphopt_passes.legalize.decompose_pooling:DecomposePooling",
        "decompose-resize": "graphopt_passes.legalize.decompose_resize:DecomposeResize",
        "explicit-padding": "graphopt_passes.legalize.explicit_padding:ExplicitPadding",
        "fold-batchnorm": "graphopt_passes.fold.fold_batchnorm:FoldBatchnorm",
        "fold-constants": "graphopt_passes.fold.fold_constants:FoldConstants",
        "fuse": "graphopt_passes.fuse.fuse:Fuse",
        "plan-memory": "graphopt_passes.memory.plan_memory:PlanMemory",
    },
    pipelines={"default": "graphopt_passes.pipelines:LEVELS"},
)
