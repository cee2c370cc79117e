"""Configurations under the names and with the defaults of the package published with the paper."""

from dataclasses import dataclass


@dataclass
class BaseConfig:
    """Any configuration; ``name`` is a label."""

    name: str = "BaseConfig"


@dataclass
class BaseInterfaceConfig(BaseConfig):
    """What the upstream gives: ``upstream_layer_num`` states (L) of ``upstream_feat_dim`` (D).

    ``normalize`` layer-normalises every state, without learned parameters.
    """

    name: str = "BaseModelConfig"
    upstream_layer_num: int = 13
    upstream_feat_dim: int = 768
    normalize: bool = False


@dataclass
class SingleLayerInterfaceConfig(BaseInterfaceConfig):
    """One layer; negative indices count from the end."""

    name: str = "SingleLayerInterfaceConfig"
    selected_layer: int = -1


@dataclass
class WeightedSumInterfaceConfig(BaseInterfaceConfig):
    """Softmax-weighted sum of all layers."""

    name: str = "WeightedSumInterfaceConfig"


@dataclass
class HierarchicalConvInterfaceConfig(BaseInterfaceConfig):
    """Hierarchical convolution over layers.

    ``channel_change_strategy`` knows "same_upstream" only: D channels in every convolution but the
    last. ``output_dim`` None takes the natural width, any other width adds a linear projection.
    """

    name: str = "HierarchicalConvInterfaceConfig"
    channel_change_strategy: str = "same_upstream"
    conv_kernel_size: int = 5
    conv_kernel_stride: int = 3
    output_dim: int | None = None
