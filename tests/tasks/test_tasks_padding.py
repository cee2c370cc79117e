"""``padding: group``: in training a head sees the padding that s3prl and ESPnet would give it.

ESPnet is not installed, so its rules are written out here, from the files that are named.
"""

import pytest
import torch
import torch.nn.functional as F
from espnet_rules import espnet
from torch import Tensor
from torch.func import functional_call, stack_module_state

from ssl_bench.heads.conv_transformer import ConvTransformerHead
from ssl_bench.heads.padding import longest, pad_by_group
from ssl_bench.heads.specaugment import SpecAugment
from ssl_bench.heads.time_warp import draw_warp
from ssl_bench.tasks.asr import Config as AsrConfig
from ssl_bench.tasks.mono_asr import Config as MonoConfig

DIM = 10
MIXED = [40, 31, 12, 9, 30, 30, 27, 8]


def seeded(small, kind: str, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return small.task(kind, **small.small[kind]).head(DIM).double().train()


def parts(groups: int, *all_of: Tensor) -> list[tuple[Tensor, ...]]:
    return list(zip(*(one.chunk(groups) for one in all_of), strict=True))


def test_a_group_is_padded_to_its_longest() -> None:
    assert longest(torch.tensor([3, 9, 4, 1, 2, 2]), 3).tolist() == [9, 9, 4, 4, 2, 2]
    assert longest(torch.tensor([3, 9, 4]), 3).tolist() == [3, 9, 4]
    assert longest(torch.tensor([[3, 9], [4, 1], [2, 2]]), 1).tolist() == [9, 9, 9]


# ---- ML-SUPERB's recogniser


def ctc(outputs: Tensor, lengths: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    logs = outputs.log_softmax(-1).transpose(0, 1)
    losses = F.ctc_loss(logs, targets, lengths, counts, reduction="sum", zero_infinity=True)
    return losses / len(targets)


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
@pytest.mark.parametrize("lengths", [MIXED, [40] * 8, [7, 8, 9, 10, 11, 12, 13, 14]])
def test_ml_superbs_recogniser_is_espnets_of_each_batch(small, groups: int, lengths: list) -> None:
    head = seeded(small, "mono_asr")
    features, lengths = small.batch(DIM, lengths, dtype=torch.float64)
    classes = head.linear.out_features
    targets = torch.randint(1, classes, (8, 2), generator=torch.Generator().manual_seed(0))
    counts = torch.full((8,), 2)
    names, leaves = zip(*head.named_parameters(), strict=True)

    total = torch.zeros((), dtype=torch.float64)
    expected = []
    for own, each, *truth in parts(groups, features, lengths, targets, counts):
        found = espnet(head, own[:, : each.max()], each)
        expected.append(found)
        total = total + ctc(*found, *truth) / groups
    gradients = torch.autograd.grad(total, leaves)

    pad_by_group(head, groups)
    wide = F.pad(features, (0, 0, 0, 6), value=7.0)
    outputs, out = head(wide, lengths)
    assert out.tolist() == torch.cat([each for _, each in expected]).tolist()
    theirs = [row for found, _ in expected for row in found]
    for ours, their, length in zip(outputs, theirs, out.tolist(), strict=True):
        torch.testing.assert_close(ours[:length], their[:length], rtol=1e-9, atol=1e-11)
    loss = ctc(outputs, out, targets, counts)
    torch.testing.assert_close(loss, total, rtol=1e-9, atol=0)
    for name, one, other in zip(names, torch.autograd.grad(loss, leaves), gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10, msg=name)


def test_frames_that_see_padding_are_kept_in_a_group_alone(small) -> None:
    head = seeded(small, "mono_asr")
    features, lengths = small.batch(DIM, MIXED, dtype=torch.float64)
    _, own = head(features, lengths)
    pad_by_group(head, 2)
    _, kept = head(features, lengths)
    # 12 frames: outputs begin at 0, 2, …, 10; the longest has 40 frames and 17 outputs
    assert (own[2], kept[2]) == (3, 6)
    assert (kept - own).tolist() == [0, 3, 3, 3, 0, 0, 1, 3]


# ---- when it acts, and on what


@pytest.mark.parametrize("kind", ["sv", "mono_asr"])
def test_groups_change_nothing_in_evaluation(small, kind: str) -> None:
    """s3prl verifies, and ESPnet recognises, one utterance at a time."""
    head = seeded(small, kind)
    features, lengths = small.batch(DIM, MIXED, dtype=torch.float64)
    expected = head.eval()(features, lengths)
    pad_by_group(head, 3)  # of which 8 is no multiple
    for found, value in zip(head(features, lengths), expected, strict=True):
        assert torch.equal(found, value)


@pytest.mark.parametrize("kind", ["sv", "mono_asr"])
def test_groups_of_one_utterance_are_blind_to_padding(small, kind: str) -> None:
    head = seeded(small, kind)
    features, lengths = small.batch(DIM, MIXED, dtype=torch.float64)
    expected, out = head(features, lengths)
    pad_by_group(head, 8)
    found, counts = head(features, lengths)
    assert torch.equal(out, counts)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("kind", ["sv", "mono_asr"])
def test_rows_that_fill_a_group_change_no_other(small, kind: str) -> None:
    head = seeded(small, kind)
    features, lengths = small.batch(DIM, MIXED, dtype=torch.float64)
    pad_by_group(head, 2)
    expected, out = head(features, lengths)
    rows = torch.tensor([0, 1, 2, 3, 3, 4, 5, 6, 7, 7])
    found, counts = head(features[rows], lengths[rows])
    own = torch.tensor([0, 1, 2, 3, 5, 6, 7, 8])
    assert torch.equal(counts[own], out)
    torch.testing.assert_close(found[own], expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["sv", "mono_asr"])
def test_stacked_runs_see_each_its_own_padding(small, kind: str) -> None:
    runs = [seeded(small, kind, seed) for seed in range(2)]
    for head in runs:
        pad_by_group(head, 2)
    batches = [
        small.batch(DIM, lengths, seed, torch.float64)
        for seed, lengths in enumerate(([30, 17, 21, 16], [19, 30, 18, 24]))
    ]
    features, lengths = (torch.stack(each) for each in zip(*batches, strict=True))
    stacked, buffers = stack_module_state(runs)

    def run(*given: Tensor) -> tuple[Tensor, Tensor]:
        return functional_call(runs[0], given[:2], given[2:])

    outputs, out = torch.vmap(run, randomness="different")(stacked, buffers, features, lengths)
    outputs.square().sum().backward()
    for r, head in enumerate(runs):
        expected, counts = head(features[r], lengths[r])
        torch.testing.assert_close(outputs[r], expected, rtol=1e-9, atol=1e-11)
        assert torch.equal(out[r], counts)
        expected.square().sum().backward()
        for name, parameter in head.named_parameters():
            torch.testing.assert_close(stacked[name].grad[r], parameter.grad, rtol=1e-8, atol=1e-9)


# ---- SpecAugment


@pytest.mark.parametrize("config", [AsrConfig, MonoConfig])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_masks_are_s3prls_of_each_group(small, specaug, monkeypatch, config, groups: int) -> None:
    """ESPnet's ``mask_along_axis`` is the same code; the widest time mask is a share of a batch.

    (``MaskAlongAxisVariableMaxWidth``: of the batch's longest, rounded down.)
    """
    lengths = [90, 61, 40, 22, 60, 60, 35, 30]
    features, counts = small.batch(60, lengths)
    features += 1.0
    keys = config(kind="x", corpus="x").specaugment.model_copy(update={"time_warp": 0})
    ours = SpecAugment(keys).train()
    pad_by_group(ours, groups)
    torch.manual_seed(3)
    found = ours(features, counts)
    torch.manual_seed(3)
    drawn = [torch.rand(2, 8, masks) for masks in (keys.feature_masks, keys.time_masks)]
    for place, (own, each) in enumerate(parts(groups, features, counts)):
        rows = slice(place * len(each), (place + 1) * len(each))
        uniform = iter(part[rows] for one in drawn for part in one)

        def randint(low: int, high: int, size: tuple, device: object = None) -> Tensor:
            return low + (next(uniform) * (high - low)).long()  # noqa: B023

        monkeypatch.setattr(torch, "randint", randint)
        widest = keys.time_width or int(int(each.max()) * keys.time_ratio)
        theirs = specaug.SpecAug(
            apply_time_warp=False,
            freq_mask_width_range=(0, keys.feature_width),
            num_freq_mask=keys.feature_masks,
            time_mask_width_range=(0, widest),
            num_time_mask=keys.time_masks,
        )
        expected, _ = theirs([f[:n] for f, n in zip(own, each, strict=True)], each)
        for ours_of, their, length in zip(found[rows], expected, each.tolist(), strict=True):
            assert torch.equal(ours_of[:length], their)


def test_groups_of_equal_lengths_are_warped_alike() -> None:
    """ESPnet's ``TimeWarp``: where all lengths of a batch are equal, one draw is everybody's."""
    torch.manual_seed(0)
    lengths = torch.tensor([30, 30, 30, 30, 30, 29, 30, 30, 40, 40, 40, 40])
    draws = torch.stack([torch.stack(draw_warp(lengths, 5, 3)) for _ in range(200)])
    first, second, third = draws.chunk(3, dim=-1)
    for alike in (first, third):
        assert (alike == alike[..., :1]).all()
        assert len(alike[..., 0].unique(dim=0)) > 50
    assert not (second[..., 2] == second[..., 3]).all()
    assert not (first[..., 0] == third[..., 0]).all()
    torch.manual_seed(0)
    one = draw_warp(lengths, 5, 3)
    torch.manual_seed(0)
    own = draw_warp(lengths, 5)
    for ours, theirs in zip(one, own, strict=True):
        assert torch.equal(ours[4:8], theirs[4:8])
        assert (ours[[0, 8]] == theirs[[0, 8]]).all()


@pytest.mark.parametrize("alike", [True, False])
def test_warps_are_alike_in_ml_superb_alone(small, alike: bool) -> None:
    config = MonoConfig(kind="x", corpus="x").specaugment.model_copy(
        update={"feature_masks": 0, "time_masks": 0}
    )
    head = ConvTransformerHead(6, 5, 12, 16, 1, 2, 32, 0.0, config)
    augment = head.specaugment if alike else SpecAugment(config)
    pad_by_group(augment.train(), 2)
    one = small.batch(6, [30])[0]
    lengths = torch.full((6,), 30)
    torch.manual_seed(1)
    warped = augment(one.expand(6, -1, -1), lengths).unflatten(0, (2, 3))
    assert torch.equal(warped[:, 1:], warped[:, :1].expand(-1, 2, -1, -1)) is alike
    assert not torch.equal(warped[0, 0], warped[1, 0])
    augment.groups = None
    each = augment(one.expand(6, -1, -1), lengths)
    assert not torch.equal(each[0], each[1])


def test_augmentation_of_groups_runs_stacked(small) -> None:
    augment = SpecAugment(MonoConfig(kind="x", corpus="x").specaugment, warps_alike=True).train()
    pad_by_group(augment, 2)
    features, lengths = small.batch(60, [40, 40, 31, 12])
    same = features.expand(2, -1, -1, -1)
    both = torch.vmap(augment, randomness="different")(same, lengths.expand(2, -1))
    assert both.isfinite().all()
    assert not torch.equal(both[0], both[1])
