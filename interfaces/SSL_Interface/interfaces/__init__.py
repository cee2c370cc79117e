"""One file an interface, found by its name (``SSL_Interface.create``); here, the published names.

A new interface is a new file with one config dataclass and one ``Interface`` subclass.
"""

from SSL_Interface.interfaces._published import (
    HierarchicalConvInterface,
    SingleLayerInterface,
    WeightSumInterface,
)

__all__ = ["HierarchicalConvInterface", "SingleLayerInterface", "WeightSumInterface"]
