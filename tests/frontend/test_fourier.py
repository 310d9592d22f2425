"""Fourier transforms by two short products: composite, prime and odd lengths, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from graphopt.check import execute
from graphopt.errors import UnsupportedError
from graphopt.frontend.torch_export import trace

pytestmark = pytest.mark.torch

LENGTHS = (63, 64, 66, 127, 250, 400, 512)
TOLERANCE = 1e-13
"""Of the largest magnitude: sums of 512 terms in float64."""

FORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rfft": lambda x, z: torch.view_as_real(torch.fft.rfft(x)),
    "all of a real one": lambda x, z: torch.view_as_real(torch.fft.fft(x, norm="ortho")),
    "fft": lambda x, z: torch.view_as_real(torch.fft.fft(torch.view_as_complex(z))),
    "ifft, first axis": lambda x, z: torch.view_as_real(
        torch.fft.ifft(torch.view_as_complex(z.transpose(0, 1).contiguous()), dim=0)
    ),
    "irfft": lambda x, z: torch.fft.irfft(torch.fft.rfft(x), n=x.shape[-1]),
    "irfft of any numbers": lambda x, z: torch.fft.irfft(torch.view_as_complex(z)),
    "rfft2": lambda x, z: torch.view_as_real(torch.fft.rfft2(x)),
}


class Transforms(nn.Module):
    def forward(self, *inputs: Tensor) -> list[Tensor]:
        pairs = zip(inputs[::2], inputs[1::2], strict=True)
        return [form(x, z) for x, z in pairs for form in FORMS.values()]


def test_every_form_at_every_length() -> None:
    random = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(shape, generator=random, dtype=torch.float64)
        for n in LENGTHS
        for shape in ((3, n), (3, n, 2))
    ]
    model = Transforms()

    results = execute(trace(model, tuple(inputs)), [t.numpy() for t in inputs])

    for got, wanted in zip(results, model(*inputs), strict=True):
        scale = wanted.abs().max().item()
        np.testing.assert_allclose(got, wanted.numpy(), rtol=0, atol=TOLERANCE * scale)


def test_long_transforms_of_many_factors() -> None:
    x = torch.randn(1, 1 << 16, generator=torch.Generator().manual_seed(0))

    class Long(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.view_as_real(torch.fft.rfft(x))

    graph = trace(Long(), (x,))
    (got,) = execute(graph, [x.numpy()], precision=np.float64)
    wanted = torch.view_as_real(torch.fft.rfft(x.double())).numpy()
    # The matrices are rounded to float32: each root is off by 2**-25, and sums are of random signs.
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2.0**-22 * np.abs(wanted).max())


def test_a_large_prime_is_refused() -> None:
    class Prime(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.view_as_real(torch.fft.fft(x))

    with pytest.raises(UnsupportedError, match="a Fourier transform of 2053 points"):
        trace(Prime(), (torch.ones(2053),))
