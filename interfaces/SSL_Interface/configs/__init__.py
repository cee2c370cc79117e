"""Configurations: the published ones, and the base of those that sit beside each interface."""

import sys

from SSL_Interface.base import InterfaceConfig
from SSL_Interface.configs import published
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

# The published package's modules, which pickled configurations name.
baseConfig = interfaceConfig = published
for _module in ("baseConfig", "interfaceConfig"):
    sys.modules[f"{__name__}.{_module}"] = published
