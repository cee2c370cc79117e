"""SUPERB's linear utterance head."""

from torch import Tensor, nn

from ssl_bench.heads.activation import Activation, make_activation
from ssl_bench.heads.masking import masked_mean


class UtteranceLinearHead(nn.Module):
    """Linear(D→hidden) → mean over valid frames → Linear(hidden→classes).

    Source: s3prl ``UtteranceLevel`` with ``MeanPooling``; ``activation`` (before the mean) is not
    published.
    """

    def __init__(self, dim: int, hidden: int, classes: int, activation: Activation = "none"):
        super().__init__()
        self.projector = nn.Linear(dim, hidden)
        self.activation = make_activation(activation)
        self.linear = nn.Linear(hidden, classes)
        self.is_linear = activation == "none"

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B,) → logits (B, classes), (B,)."""
        if self.is_linear:
            # The mean of a projection is the projection of the mean, at 1/T of the work.
            pooled = self.projector(masked_mean(features, lengths))
        else:
            pooled = masked_mean(self.activation(self.projector(features)), lengths)
        return self.linear(pooled), lengths
