"""SUPERB's phone recognition head."""

from torch import Tensor, nn

from ssl_bench.heads.activation import Activation, make_activation


class FrameLinearHead(nn.Module):
    """Linear(D→hidden) → Linear(hidden→classes) at every frame.

    Source: s3prl ``downstream/ctc/expert.py`` with ``FrameLevel``; ``activation`` is not published.
    """

    def __init__(self, dim: int, hidden: int, classes: int, activation: Activation = "none"):
        super().__init__()
        self.projector = nn.Linear(dim, hidden)
        self.activation = make_activation(activation)
        self.linear = nn.Linear(hidden, classes)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D), (B,) → logits (B, T, classes), (B,)."""
        return self.linear(self.activation(self.projector(features))), lengths
