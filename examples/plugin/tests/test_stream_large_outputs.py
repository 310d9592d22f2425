"""stream-large-outputs: fires, refuses, and holds its numerics."""

import pytest

from graphopt.check import check_kernel_pass, check_kernel_refuses

DOUBLE = """
kernel double(x: f32[64], y: f32[64] output) {
  for i in 0..4 {
    y[ramp(i * 16, 1, 16)] = x[ramp(i * 16, 1, 16)] * 2.0STREAM
  }
}
"""


def test_large_outputs_go_past_the_caches() -> None:
    check_kernel_pass(
        "stream-large-outputs{min-bytes=256}",
        before=DOUBLE.replace("STREAM", ""),
        after=DOUBLE.replace("STREAM", " nontemporal"),
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("y[ramp(i * 16, 1, 16)] = x[ramp(i * 16, 1, 16)]", "64 bytes may stay in a cache"),
        ("y[ramp(i * 16, 1, 16)] += x[ramp(i * 16, 1, 16)]", "reads it again"),
        ("alloc t: f32[16] stack\nt[ramp(0, 1, 16)] = x[ramp(i * 16, 1, 16)]", "it is no output"),
    ],
)
def test_refuses(text: str, reason: str) -> None:
    size = 1024 if "may stay" in reason else 64
    kernel = f"""
      kernel k(x: f32[16], y: f32[16] output) {{
        for i in 0..1 {{ {text} }}
      }}"""
    check_kernel_refuses(f"stream-large-outputs{{min-bytes={size}}}", kernel, reason)


def test_scalar_and_strided_stores_are_left_alone() -> None:
    kernel = """
      kernel k(x: f32[64], y: f32[64] output) {
        for i in 0..16 { y[ramp(i, 4, 4)] = x[ramp(i, 4, 4)] }
        for i in 0..64 { y[i] = x[i] }
      }"""
    with pytest.raises(AssertionError, match="changed nothing"):
        check_kernel_pass("stream-large-outputs{min-bytes=1}", kernel)
