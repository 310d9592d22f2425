"""merge-parallel-products: linears that share an input become one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_graphs import count, fires, prepared

Check = Callable[..., object]
NAME = "merge-parallel-products"


def _pair(first: str = "", second: str = "", result: str = "%a, %b") -> str:
    text = '%x = input : f32[5,2]\n%u = constant {key="u", value=[1,2]} : f32[1,2]\n'
    text += '%v = constant {key="v", value=[3,4,5,6]} : f32[2,2]\n'
    text += f'%p = constant {{key="p", value=[{first}]}} : f32[1]\n' if first else ""
    text += f'%q = constant {{key="q", value=[{second}]}} : f32[2]\n' if second else ""
    text += f"%a = linear %x, %u{', %p' if first else ''}\n"
    return text + f"%b = linear %x, %v{', %q' if second else ''}\nreturn {result}"


def _merged(bias: str = "") -> str:
    text = '%x = input : f32[5,2]\n%w = constant {key="w", value=[1,2,3,4,5,6]} : f32[3,2]\n'
    text += f'%c = constant {{key="c", value=[{bias}]}} : f32[3]\n' if bias else ""
    text += f"%m = linear %x, %w{', %c' if bias else ''}\n"
    text += "%a = slice %m {starts=[0,0], stops=[5,1], steps=[1,1]}\n"
    return text + "%b = slice %m {starts=[0,1], stops=[5,3], steps=[1,1]}\nreturn %a, %b"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (_pair(), _merged()),
        (_pair("7", "8,9"), _merged("7,8,9")),
        (_pair("", "8,9"), _merged("0,8,9")),
    ],
    ids=["without-bias", "with-bias", "one-bias"],
)
def test_merges(before: str, after: str, check_pass: Check) -> None:
    check_pass("merge-parallel-products", before, after)


SHARED = '%x = input : f32[5,2]\n%u = constant {key="u"} : f32[2,2]\n'


@pytest.mark.parametrize(
    ("pass_", "text", "reason"),
    [
        (NAME, SHARED + "%a = linear %x, %u\nreturn %a", "no other linear"),
        (NAME, SHARED + "%a = linear %x, %u\n%b = linear %x, %u\nreturn %a, %b",
         "its weights are shared"),
        (NAME, _pair().replace('%u = constant {key="u", value=[1,2]}', "%u = input"),
         "computed at run time"),
        ("merge-parallel-products{max-width=2}", _pair(), "together they would be 3 wide"),
    ],
)  # fmt: skip
def test_refuses(pass_: str, text: str, reason: str, check_refuses: Check) -> None:
    check_refuses(pass_, text, reason=reason)


@pytest.mark.transformers
def test_fires_on_a_real_model() -> None:
    """Q, K and V of each layer; gate and up projection."""
    graph = prepared("tiny_llama", "fold-constants,recognize-rms-norm")
    result, rewrites = fires("merge-parallel-products", graph)
    assert rewrites == 4
    assert count(graph)["linear"] - count(result)["linear"] == 2 * 2 + 2 * 1
