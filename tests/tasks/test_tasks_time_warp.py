"""SpecAugment: the warp and the masks are s3prl's, on the same draws; they run stacked."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from ssl_bench.heads.specaugment import SpecAugment, SpecAugmentConfig
from ssl_bench.heads.time_warp import draw_warp, warp
from ssl_bench.tasks.asr import Config as AsrConfig
from ssl_bench.tasks.mono_asr import Config as MonoConfig

LENGTHS = torch.tensor([40, 31, 11, 10, 3])


def plain(x: Tensor, centre: int, moved: int) -> Tensor:
    """Warp one utterance (T, D) with torch's own interpolation."""
    if moved == 0:
        return x
    parts = [(x[:centre], moved), (x[centre:], len(x) - moved)]
    return torch.cat(
        [
            F.interpolate(part[None, None], (size, x.shape[1]), mode="bicubic")[0, 0]
            for part, size in parts
        ]
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_warp_is_that_of_each_utterance_alone(small, seed: int) -> None:
    torch.manual_seed(seed)
    features, _ = small.batch(6, LENGTHS.tolist(), seed)
    features += 100 * (torch.arange(40) >= LENGTHS[:, None])[..., None]  # padding that would show
    centre, moved = draw_warp(LENGTHS, 5)
    found = warp(features, LENGTHS, centre, moved)
    assert torch.equal(found[:, 11:][3:], features[:, 11:][3:])
    for i, length in enumerate(LENGTHS.tolist()):
        expected = plain(features[i, :length], int(centre[i]), int(moved[i]))
        torch.testing.assert_close(found[i, :length], expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(found[i, length:], features[i, length:])


def test_the_warp_is_s3prls(small, specaug, monkeypatch) -> None:
    features, _ = small.batch(6, LENGTHS.tolist())
    centre, moved = draw_warp(LENGTHS, 5)
    drawn = iter(v for c, m in zip(centre, moved, strict=True) if m for v in (c, m - 1))
    monkeypatch.setattr(torch, "randint", lambda low, high, size: next(drawn)[None])
    theirs, _ = specaug.TimeWarp(window=5)(features.clone(), LENGTHS)
    monkeypatch.undo()
    assert next(drawn, None) is None
    found = warp(features, LENGTHS, centre, moved)
    torch.testing.assert_close(found, theirs, rtol=1e-5, atol=1e-5)


def test_draws_have_s3prls_range_and_short_utterances_none() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([30, 11, 10]).repeat(20_000)
    centre, moved = draw_warp(lengths, 5)
    at = lengths == 30
    # s3prl: randint(window, T - window), then randint(centre - window, centre + window) + 1
    assert centre[at].unique().tolist() == list(range(5, 25))
    assert (moved - centre)[at].unique().tolist() == list(range(-4, 6))
    share = torch.bincount((moved - centre)[at] + 4) / at.sum()
    torch.testing.assert_close(share, torch.full((10,), 0.1), atol=0.01, rtol=0)
    assert centre[lengths == 11].unique().tolist() == [5]
    assert not moved[lengths == 10].any()


def test_gradients_flow_through_the_warp() -> None:
    features = torch.randn(1, 14, 2, dtype=torch.float64, requires_grad=True)
    draw = torch.tensor([7]), torch.tensor([9])
    torch.autograd.gradcheck(lambda x: warp(x, torch.tensor([13]), *draw), (features,))


# ---- masks


def test_masks_are_s3prls(small, specaug, monkeypatch) -> None:
    """The same uniform draws make the same masks; widths and places are floors of them."""
    features, _ = small.batch(60, LENGTHS.tolist())
    features += 1.0
    config = AsrConfig(kind="asr", corpus="x").specaugment.model_copy(update={"time_warp": 0})
    torch.manual_seed(3)
    ours = SpecAugment(config).train()(features, LENGTHS)
    torch.manual_seed(3)
    draws = [torch.rand(2, 5, masks) for masks in (4, 2)]
    uniform = iter([draws[0][0], draws[0][1], draws[1][0], draws[1][1]])

    def randint(low: int, high: int, size: tuple, device: object = None) -> Tensor:
        return low + (next(uniform) * (high - low)).long()

    monkeypatch.setattr(torch, "randint", randint)
    theirs = specaug.SpecAug(
        apply_time_warp=False,
        freq_mask_width_range=(0, 50),
        num_freq_mask=4,
        time_mask_width_range=(0, 40),
        num_time_mask=2,
    )
    expected, _ = theirs([f[:n] for f, n in zip(features, LENGTHS, strict=True)], LENGTHS)
    for i, length in enumerate(LENGTHS.tolist()):
        assert torch.equal(ours[i, :length], expected[i])


def test_masks_of_an_utterance_lie_within_it() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([50, 20]).repeat(300)
    features = torch.ones(600, 50, 4)
    of = {"time_masks": 1, "time_ratio": 0.4}
    own = SpecAugment(SpecAugmentConfig(**of, extent="utterance")).train()(features, lengths)
    masked = (own == 0).all(-1)
    assert not masked[lengths == 20][:, 20:].any()
    assert masked[lengths == 20].sum(1).max() == 7  # widths of [0, 8)
    batch = SpecAugment(SpecAugmentConfig(**of, extent="batch")).train()(features, lengths)
    masked = (batch == 0).all(-1)
    assert masked[lengths == 20][:, 20:].any()
    assert masked.sum(1).max() == 19


# ---- what the recipes say, and how it runs


@pytest.mark.parametrize("config", [AsrConfig, MonoConfig])
def test_published_specaugment_warps_within_five_frames(config: type) -> None:
    found = config(kind="x", corpus="x").specaugment
    assert (found.time_warp, found.extent) == (5, "batch")
    assert SpecAugmentConfig(feature_masks=1, feature_width=3).time_warp == 0


def test_warp_and_masks_run_stacked_as_alone(small) -> None:
    """Shapes do not depend on what is drawn, so runs are stacked, and a step can be recorded."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor, lengths: Tensor, *draw: Tensor) -> Tensor:
            return warp(x * self.scale, lengths, *draw)

    heads = [Head(), Head()]
    features = torch.stack([small.batch(3, LENGTHS.tolist(), seed)[0] for seed in (0, 1)])
    draws = [torch.stack(pair) for pair in zip(*(draw_warp(LENGTHS, 5) for _ in "ab"), strict=True)]
    stacked, _ = stack_module_state(heads)

    def run(parameters: dict, x: Tensor, *draw: Tensor) -> Tensor:
        return functional_call(heads[0], parameters, (x, LENGTHS, *draw))

    found = torch.vmap(run)(stacked, features, *draws)
    found.square().sum().backward()
    for r, head in enumerate(heads):
        alone = head(features[r], LENGTHS, *(draw[r] for draw in draws))
        torch.testing.assert_close(found[r], alone)
        alone.square().sum().backward()
        torch.testing.assert_close(stacked["scale"].grad[r], head.scale.grad)

    augment = SpecAugment(MonoConfig(kind="x", corpus="x").specaugment).train()
    same = small.batch(60, LENGTHS.tolist())[0].expand(2, -1, -1, -1)
    both = torch.vmap(augment, randomness="different")(same, LENGTHS.expand(2, -1))
    assert both.shape == same.shape
    assert not torch.equal(both[0], both[1])
