"""ESPnet's rules of a padded batch, written out from its files, for it is not installed."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from ssl_bench.heads.conv_transformer import ConvTransformerHead
from ssl_bench.heads.transformer import sinusoids


def espnet(head: ConvTransformerHead, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """One batch as ESPnet computes it, without augmentation; features (B, T, D), T the longest.

    ``espnet2/layers/utterance_mvn.py``: padding is zero, and the mean is taken from all frames of
    the batch, padding as well. ``espnet2/asr/encoder/transformer_encoder.py`` and
    ``Conv2dSubsampling2``: the mask of input frames is cut as the two convolutions cut frames, two
    at the end of each and every second of the first, and says which keys are attended to; its sum
    is the length for CTC.
    """
    inside = torch.arange(features.shape[1]) < lengths[:, None]
    features = features * inside[..., None]
    x = head.projector(features - features.sum(1, keepdim=True) / lengths[:, None, None])
    x = head.conv(x[:, None]).relu().transpose(1, 2).flatten(2)
    x = head.subsample(x)
    kept = inside[:, : inside.shape[1] - 2][:, ::2]
    kept = kept[:, : kept.shape[1] - 2]
    x = x * math.sqrt(x.shape[-1]) + sinusoids(x.shape[1], x.shape[2], x)
    for layer in head.layers:
        x = layer(x, kept)
    return head.linear(head.norm(x)), kept.sum(1)


def batches(lengths: dict[str, int], size: int) -> list[list[str]]:
    """Batches of ``batch_type: sorted``: ``espnet2/samplers/sorted_batch_sampler.py``.

    The longest first; as many batches as are full, which share all utterances out.
    """
    order = sorted(lengths, key=lambda name: -lengths[name])
    count = max(len(order) // size, 1)
    ends = [number * len(order) // count for number in range(count + 1)]
    return [order[begin:end] for begin, end in pairwise(ends)]


def reported(values: list[float], weights: list[int]) -> float:
    """The mean of batches by their sizes, as ``espnet2/train/reporter.py`` aggregates a loss."""
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
