"""The classes of the package published with the paper, under their names and configurations.

Same inputs and weights give the same outputs, and state dicts load both ways. What differs: an
argument that does not fit raises InterfaceError where the published package ended the process or
gave features wider than its ``output_dim``, ``output_dim`` may be None or any width (see
``hconv``), and ``forward`` takes ``lengths``.
"""

import logging
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from SSL_Interface.base import Interface, InterfaceConfig, States, check_config
from SSL_Interface.configs.published import (
    BaseInterfaceConfig,
    HierarchicalConvInterfaceConfig,
    SingleLayerInterfaceConfig,
    WeightedSumInterfaceConfig,
)
from SSL_Interface.errors import InterfaceError
from SSL_Interface.interfaces.hconv import HConv, HConvConfig
from SSL_Interface.interfaces.single_layer import SingleLayer, SingleLayerConfig
from SSL_Interface.interfaces.weighted_sum import WeightedSum, WeightedSumConfig

logger = logging.getLogger(__name__)


class BaseInterface(Interface):
    """What every published class is: a subclass of one's own defines ``interface_forward``.

    Args:
        config: the published configuration, kept as ``config``.
        own: this library's configuration of the same; None takes the sizes and ``normalize``.
    """

    # Any: the published configurations are not this library's InterfaceConfig.
    Config: ClassVar[Any] = BaseInterfaceConfig
    config: Any

    def __init__(self, config: BaseInterfaceConfig, own: InterfaceConfig | None = None) -> None:
        super().__init__(own or InterfaceConfig(**_sizes(config)))
        self.config = config

    @override
    def forward(self, stacked_hs: States, lengths: Tensor | None = None) -> Tensor:
        """See :meth:`Interface.forward`; the states have their published name."""
        return super().forward(stacked_hs, lengths)

    @override
    def join(self, states: Tensor) -> Tensor:
        return self.interface_forward(states)

    def interface_forward(self, stacked_hs: Tensor) -> Tensor:
        """Join checked and normalised states (L, B, T, D) → (B, T, output_dim)."""
        return super().join(stacked_hs)

    def log_params(self) -> None:
        """Log the number of trainable parameters."""
        count = self.parameter_count()
        logger.info("%s has %s trainable parameters", type(self).__name__, f"{count:,}")


class SingleLayerInterface(BaseInterface, SingleLayer):
    """One layer: ``single_layer`` by its published configuration (published without a module)."""

    Config: ClassVar[Any] = SingleLayerInterfaceConfig

    def __init__(self, config: SingleLayerInterfaceConfig) -> None:
        sizes = _sizes(config, SingleLayerInterfaceConfig)
        super().__init__(config, SingleLayerConfig(**sizes, layer=config.selected_layer))


class WeightSumInterface(BaseInterface, WeightedSum):
    """Softmax-weighted sum of the layers: ``weighted_sum`` by its published configuration."""

    Config: ClassVar[Any] = WeightedSumInterfaceConfig

    def __init__(self, config: WeightedSumInterfaceConfig) -> None:
        super().__init__(config, WeightedSumConfig(**_sizes(config)))


class HierarchicalConvInterface(BaseInterface, HConv):
    """Convolutions over the layer axis: ``hconv`` by its published configuration.

    Raises:
        InterfaceError: as ``hconv``; or fewer layers than the stride, for which the published class
            has no convolution (``hconv`` itself has one).
    """

    Config: ClassVar[Any] = HierarchicalConvInterfaceConfig

    def __init__(self, config: HierarchicalConvInterfaceConfig) -> None:
        sizes = _sizes(config, HierarchicalConvInterfaceConfig)
        strategy = config.channel_change_strategy
        if strategy != "same_upstream":
            raise InterfaceError(
                "hconv: channel_change_strategy", "'same_upstream'", repr(strategy)
            )
        own = HConvConfig(
            **sizes,
            kernel_size=config.conv_kernel_size,
            stride=config.conv_kernel_stride,
            output_dim=config.output_dim,
        )
        super().__init__(config, own)
        if self.num_layers < self.stride:
            expected = f"at least {self.stride}, the stride"
            raise self.error("upstream_layer_num", expected, self.num_layers)


def _sizes(config: BaseInterfaceConfig, kind: type = BaseInterfaceConfig) -> dict[str, Any]:
    """Options that every interface has, under this library's names, of a checked configuration."""
    check_config(kind.__name__.removesuffix("Config"), kind, config)
    return {
        "num_layers": config.upstream_layer_num,
        "dim": config.upstream_feat_dim,
        "normalize": config.normalize,
    }
