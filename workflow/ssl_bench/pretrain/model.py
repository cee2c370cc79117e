"""A HuBERT model with the heads of masked prediction."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import HubertConfig, HubertModel

from ssl_bench.pretrain.settings import KERNELS, STRIDES, Loss, Size


def architecture(size: Size) -> HubertConfig:
    """Return the Hugging Face configuration of a size: pre-norm, GroupNorm on the first layer."""
    return HubertConfig(
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.feed_forward,
        conv_dim=size.channels,
        conv_kernel=KERNELS,
        conv_stride=STRIDES,
        num_conv_pos_embeddings=size.position_kernel,
        num_conv_pos_embedding_groups=size.position_groups,
        do_stable_layer_norm=True,
        feat_extract_norm="group",
        hidden_dropout=0.0,
        activation_dropout=0.0,
        attention_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
    )


class Head(nn.Module):
    """HuBERT's head: cosine between projected frames and cluster embeddings, over a temperature.

    Args:
        hidden: width of the states.
        classes: number of clusters.
        loss: settings (``embedding``, ``temperature``).
        normalise: whether the states come from within the pre-norm encoder.
    """

    def __init__(self, hidden: int, classes: int, loss: Loss, normalise: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden) if normalise else nn.Identity()
        self.project = nn.Linear(hidden, loss.embedding)
        self.embedding = nn.Parameter(torch.rand(classes, loss.embedding) * 2 - 1)
        self.temperature = loss.temperature

    def forward(self, states: Tensor) -> Tensor:
        """Return logits (B, T, classes) for states (B, T, hidden)."""
        frames = F.normalize(self.project(self.norm(states)).float(), dim=-1)
        clusters = F.normalize(self.embedding.float(), dim=-1)
        return frames @ clusters.T / self.temperature


class PretrainingModel(nn.Module):
    """A ``HubertModel`` with one head on its output and some on a state within it.

    It goes through the pieces of the model itself: the model's own forward looks at values on the
    way, which ``torch.compile`` cannot follow.

    Args:
        size: the architecture.
        loss: weights of the loss.
        classes: numbers of clusters: of the output head, then of the side layer's heads.
    """

    def __init__(self, size: Size, loss: Loss, classes: list[int]) -> None:
        super().__init__()
        self.settings = loss
        self.side_layer = size.side_layer
        self.hubert = HubertModel(architecture(size))
        self.main = Head(size.hidden, classes[0], loss, normalise=False)
        self.side = nn.ModuleList(Head(size.hidden, n, loss, normalise=True) for n in classes[1:])
        self.compile_parts(False)

    def compile_parts(self, wanted: bool) -> None:
        """Use compiled pieces or plain ones.

        One block is compiled for all: compiling the whole unrolled model takes minutes, and its
        kernels are the same.
        """
        wrap = torch.compile if wanted else (lambda function: function)
        self._front, self._block, self._score = wrap(_front), wrap(_block), wrap(_score)

    def encode(self, waves: Tensor, mask: Tensor | None, last: int) -> list[Tensor]:
        """Return states 0…last (B, T, D) for waves (B, samples), masked where (B, T) is true."""
        states = [self._front(self.hubert, waves, mask)]
        for block in self.hubert.encoder.layers[:last]:
            states.append(self._block(block, states[-1]))
        return states

    def forward(self, waves: Tensor, mask: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the figures (1 + heads, 3) that make it up.

        Args:
            waves: (B, samples), corrupted and normalised.
            mask: (B, T) bool.
            targets: (heads, B, T) int64.

        The figures are, for each head, loss over masked frames, loss over unmasked frames, and
        accuracy over masked frames.
        """
        states = self.encode(waves, mask, len(self.hubert.encoder.layers))
        return self._score(self, states[-1], states[self.side_layer], mask, targets)


def _front(hubert: HubertModel, waves: Tensor, mask: Tensor | None) -> Tensor:
    x = waves[:, None]
    for layer in hubert.feature_extractor.conv_layers:
        x = layer(x)
    x = hubert.feature_projection(x.transpose(1, 2))
    if mask is not None:
        x = torch.where(mask[..., None], hubert.masked_spec_embed.to(x.dtype), x)
    return x + hubert.encoder.pos_conv_embed(x)


def _block(block: nn.Module, state: Tensor) -> Tensor:
    return block(state)


def _score(
    model: PretrainingModel, last: Tensor, side: Tensor, mask: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    output = model.hubert.encoder.layer_norm(last)
    logits = [model.main(output), *(head(side) for head in model.side)]
    hidden = mask.float()
    figures, total = [], torch.zeros((), device=last.device)
    for index, scores in enumerate(logits):
        each = F.cross_entropy(scores.flatten(0, 1), targets[index].flatten(), reduction="none")
        each = each.view_as(hidden)
        masked = (each * hidden).sum() / hidden.sum().clamp(min=1)
        unmasked = (each * (1 - hidden)).sum() / (1 - hidden).sum().clamp(min=1)
        right = (scores.argmax(-1) == targets[index]) * hidden
        weight = 1.0 if index == 0 else model.settings.side
        total = total + weight * (masked + model.settings.unmasked * unmasked)
        figures.append(torch.stack([masked, unmasked, right.sum() / hidden.sum().clamp(min=1)]))
    return total, torch.stack(figures).detach()


def span_mask(batch: int, frames: int, loss: Loss, rng: torch.Generator) -> Tensor:
    """Return (batch, frames) bool: spans that start anywhere with a probability, overlapping."""
    starts = torch.rand(batch, frames, generator=rng, device=rng.device) < loss.mask_start
    padded = F.pad(starts.float(), (loss.mask_span - 1, 0))
    return F.max_pool1d(padded[:, None], loss.mask_span, stride=1)[:, 0].bool()
