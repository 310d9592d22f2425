"""The kinds of fused regions."""

REGION_KINDS = (
    "pointwise", "movement", "reduction", "contraction", "depthwise", "strips", "window",
    "attention", "opaque",
)  # fmt: skip
"""What a fused node can be; a backend has a lowering for each."""
