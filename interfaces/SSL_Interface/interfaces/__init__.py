"""One file an interface, found by its name (``SSL_Interface.create``); here, the published names.

A new interface is a new file with one config dataclass and one ``Interface`` subclass.
"""

import sys

from SSL_Interface.interfaces import _published
from SSL_Interface.interfaces._published import (
    HierarchicalConvInterface,
    SingleLayerInterface,
    WeightSumInterface,
)

__all__ = ["HierarchicalConvInterface", "SingleLayerInterface", "WeightSumInterface"]

# The published package's modules, which code may import from; files here would be interfaces.
baseInterface = hconvInterface = weightedSumInterface = _published
for _module in ("baseInterface", "hconvInterface", "weightedSumInterface"):
    sys.modules[f"{__name__}.{_module}"] = _published
