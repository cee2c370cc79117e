"""Interfaces for self-supervised speech models: ways of joining the hidden layers of an upstream.

An interface takes the hidden states of a frozen encoder, ``(L, B, T, D)``, and gives the features
that a task head reads, ``(B, T, output_dim)``::

    import SSL_Interface

    interface = SSL_Interface.create("hconv", num_layers=13, dim=768)
    features = interface(states, lengths)

``SSL_Interface.names()`` lists them, ``SSL_Interface.fuse`` joins several upstreams at once. Source
of most definitions: Shih & Harwath, "Interface Design for Self-Supervised Speech Models",
Interspeech 2024 (arXiv 2406.12209). The names of the package published with that paper
(``SSL_Interface.configs``, ``SSL_Interface.interfaces``) work as there.
"""

from SSL_Interface import configs, interfaces
from SSL_Interface.base import Interface, InterfaceConfig
from SSL_Interface.errors import InterfaceError
from SSL_Interface.featurizer import Featurizer
from SSL_Interface.fusion import Fusion, FusionConfig, fuse
from SSL_Interface.registry import create, find, names
from SSL_Interface.sharing import Shareable

from_pretrained = Shareable.from_pretrained

__all__ = [
    "Featurizer",
    "Fusion",
    "FusionConfig",
    "Interface",
    "InterfaceConfig",
    "InterfaceError",
    "configs",
    "create",
    "find",
    "from_pretrained",
    "fuse",
    "interfaces",
    "names",
]
