"""The classes of the package published with the paper, under their names and configurations.

Same inputs and weights give the same outputs, and state dicts load both ways. What differs: an
argument that does not fit raises InterfaceError where the published package ended the process, and
``output_dim`` may be None or any width (see ``hconv``).
"""

from SSL_Interface.configs.published import (
    HierarchicalConvInterfaceConfig,
    SingleLayerInterfaceConfig,
    WeightedSumInterfaceConfig,
)
from SSL_Interface.errors import InterfaceError
from SSL_Interface.interfaces.hconv import HConv, HConvConfig
from SSL_Interface.interfaces.single_layer import SingleLayer, SingleLayerConfig
from SSL_Interface.interfaces.weighted_sum import WeightedSum, WeightedSumConfig


class SingleLayerInterface(SingleLayer):
    """``single_layer`` from its published configuration (published without a module)."""

    def __init__(self, config: SingleLayerInterfaceConfig) -> None:
        super().__init__(
            SingleLayerConfig(
                num_layers=config.upstream_layer_num,
                dim=config.upstream_feat_dim,
                normalize=config.normalize,
                layer=config.selected_layer,
            )
        )


class WeightSumInterface(WeightedSum):
    """``weighted_sum`` from its published configuration."""

    def __init__(self, config: WeightedSumInterfaceConfig) -> None:
        super().__init__(
            WeightedSumConfig(
                num_layers=config.upstream_layer_num,
                dim=config.upstream_feat_dim,
                normalize=config.normalize,
            )
        )


class HierarchicalConvInterface(HConv):
    """``hconv`` from its published configuration."""

    def __init__(self, config: HierarchicalConvInterfaceConfig) -> None:
        if config.channel_change_strategy != "same_upstream":
            raise InterfaceError(
                "hconv: channel_change_strategy",
                "'same_upstream'",
                repr(config.channel_change_strategy),
            )
        super().__init__(
            HConvConfig(
                num_layers=config.upstream_layer_num,
                dim=config.upstream_feat_dim,
                normalize=config.normalize,
                kernel_size=config.conv_kernel_size,
                stride=config.conv_kernel_stride,
                output_dim=config.output_dim,
            )
        )
