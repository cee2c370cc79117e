"""How alike layers are: what rotating the channels hides from one measure and not the other."""

import torch

from ssl_bench.similarity import _cka, _pca_cosine


def layers() -> torch.Tensor:
    """Return a layer, the same layer with its channels rotated, and an unrelated one: (3, N, D)."""
    rng = torch.Generator().manual_seed(0)
    scale = torch.linspace(4, 0.5, 16, dtype=torch.float64)  # distinct principal components
    first, other = torch.randn(2, 4000, 16, generator=rng, dtype=torch.float64) * scale
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=rng, dtype=torch.float64)).Q
    states = torch.stack([first, first @ rotation, other])
    return states - states.mean(1, keepdim=True)


def test_cka_sees_the_same_information_in_rotated_channels() -> None:
    values = _cka(layers())
    torch.testing.assert_close(values.diagonal(), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(values, values.T)
    assert values[0, 1] > 0.999
    assert values[0, 2] < 0.05


def test_pca_cosine_sees_only_the_same_channels() -> None:
    values = _pca_cosine(layers())
    torch.testing.assert_close(values.diagonal(), torch.ones(3, dtype=torch.float64))
    assert values[0, 1] < 0.5
    assert values[0, 2] > 0.8  # unrelated frames, but the same axes
