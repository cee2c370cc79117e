"""Configurations: the published ones, and the base of those that sit beside each interface."""

from SSL_Interface.base import InterfaceConfig
from SSL_Interface.configs.published import (
    BaseConfig,
    BaseInterfaceConfig,
    HierarchicalConvInterfaceConfig,
    SingleLayerInterfaceConfig,
    WeightedSumInterfaceConfig,
)

__all__ = [
    "BaseConfig",
    "BaseInterfaceConfig",
    "HierarchicalConvInterfaceConfig",
    "InterfaceConfig",
    "SingleLayerInterfaceConfig",
    "WeightedSumInterfaceConfig",
]
