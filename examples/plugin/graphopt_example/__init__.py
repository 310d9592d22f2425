"""What this plugin offers. Listing passes imports this file alone; using one imports its module."""

from graphopt.plugins import Plugin

PLUGIN = Plugin(
    api=1,
    passes={"recognize-attention": "graphopt_example.recognize_attention:RecognizeAttention"},
    kernel_passes={
        "stream-large-outputs": "graphopt_example.stream_large_outputs:StreamLargeOutputs"
    },
)
