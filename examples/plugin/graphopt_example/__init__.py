"""What this plugin offers. Listing passes imports this file alone; using one imports its module."""

from graphopt.plugins import Plugin

PLUGIN = Plugin(
    api=1,
    passes={"recognize-layer-norm": "graphopt_example.recognize_layer_norm:RecognizeLayerNorm"},
    kernel_passes={
        "stream-large-outputs": "graphopt_example.stream_large_outputs:StreamLargeOutputs"
    },
)
