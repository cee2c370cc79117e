"""The one non-linearity that a study may put inside a published linear head."""

from typing import Literal

from torch import nn

Activation = Literal["none", "relu"]


def make_activation(name: Activation) -> nn.Module:
    """Return the identity (the published heads) or a ReLU (the study's second variant)."""
    return {"none": nn.Identity, "relu": nn.ReLU}[name]()
