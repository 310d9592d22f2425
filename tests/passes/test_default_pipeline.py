"""What the default pipeline makes of real models: the regions one would draw by hand."""

from __future__ import annotations

from collections import Counter

import pytest
from graphopt_passes.pipelines import text
from real_graphs import prepared

from graphopt.ir.graph import Graph

UP_TO_FUSION = text("O2").split(",plan-memory")[0]


def regions(name: str) -> list[str]:
    """`kind: op op ..` of every region, index arithmetic and splats left out."""
    graph: Graph = prepared(name, UP_TO_FUSION)
    moved = {"slice", "transpose", "expand", "full"}
    return [
        f"{n.attrs.kind}: " + " ".join(m.op.name for m in n.body.nodes if m.op.name not in moved)  # type: ignore[attr-defined]
        for n in graph.nodes
        if n.body is not None
    ]


LAYER = [
    "reduction: layer_norm",
    "contraction: linear",  # Q, K and V with their bias
    "attention: attention",  # their heads cut and turned on the way
    "contraction: linear add",  # and the residual
    "reduction: layer_norm",
    "contraction: linear gelu",
    "contraction: linear add",
]


@pytest.mark.transformers
def test_gpt2() -> None:
    """Two layers, the embedding, the last norm and the logits: nothing else is left."""
    logits = ["reduction: layer_norm", "contraction: linear"]
    assert regions("tiny_gpt2") == ["pointwise: gather add", *LAYER, *LAYER, *logits]


@pytest.mark.transformers
def test_convnext() -> None:
    """A block is a depthwise convolution, a norm and two products; the residual joins the last."""
    block = [
        "movement: pad",
        "depthwise: conv",
        "reduction: layer_norm",
        "contraction: linear gelu",
        "contraction: linear add",
    ]
    found = regions("tiny_convnext")
    starts = [i for i, r in enumerate(found) if r == "movement: pad"]
    assert len(starts) == 5
    assert all(found[i : i + 5] == block for i in starts)


@pytest.mark.transformers
def test_resnet() -> None:
    """Batch norms, relus and residuals are in the convolutions."""
    kinds = Counter(r.split(":")[0] for r in regions("tiny_resnet"))
    assert kinds["contraction"] == 20
    assert kinds["pointwise"] == 0


@pytest.mark.transformers
def test_llama_norms_and_clip_activations() -> None:
    assert sum(r == "reduction: rms_norm" for r in regions("tiny_llama")) == 5
    clip = regions("tiny_clip_vision")
    assert sum(r.startswith("contraction: linear silu") for r in clip) == 2
    assert not any("sigmoid" in r for r in clip)
