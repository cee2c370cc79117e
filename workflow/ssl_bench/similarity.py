"""How alike the layers of an upstream are.

* ``cka``: linear centred kernel alignment of two layers' states (Kornblith et al., 2019).
* ``pca_cosine``: the paper's measure (section 2.2): each layer's principal directions, paired by
  rank, and the mean absolute cosine of the pairs over the first :data:`COMPONENTS`. High only if
  channel i means the same in both layers.
"""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ssl_bench.device import lease
from ssl_bench.features import open_features
from ssl_bench.study import Study

COMPONENTS = 10
FRAMES = 20_000


def measure(study: Study, upstream: str, corpus: str) -> pd.DataFrame:
    """Return ``upstream, corpus, measure, layer_a, layer_b, value`` for every pair of layers."""
    with lease(study.device) as device:
        features = open_features(study, upstream, corpus, device)
        rows = np.random.default_rng(0).permutation(len(features.frames))
        count = int(np.searchsorted(np.cumsum(features.frames[rows]), FRAMES)) + 1
        parts = []
        for row in rows[:count]:
            states, _ = features.batch(np.array([row]), int(features.frames[row]))
            parts.append(states[:, 0].double())
        matrices = {"cka": _cka, "pca_cosine": _pca_cosine}
        states = torch.cat(parts, dim=1)[:, :FRAMES]
        centred = states - states.mean(1, keepdim=True)
        result = []
        for name, function in matrices.items():
            values = function(centred).cpu().numpy()
            for a in range(features.layers):
                for b in range(features.layers):
                    result.append((upstream, corpus, name, a, b, values[a, b]))
    return pd.DataFrame(
        result, columns=["upstream", "corpus", "measure", "layer_a", "layer_b", "value"]
    )


def _cka(states: Tensor) -> Tensor:
    """States (L, N, D), centred → (L, L)."""
    layers = len(states)
    cross = torch.zeros(layers, layers, dtype=states.dtype, device=states.device)
    for a in range(layers):
        for b in range(a, layers):
            cross[a, b] = cross[b, a] = (states[a].T @ states[b]).square().sum()
    own = cross.diagonal().sqrt()
    return cross / (own[:, None] * own[None, :])


def _pca_cosine(states: Tensor) -> Tensor:
    """States (L, N, D), centred → (L, L)."""
    covariance = torch.einsum("lnd,lne->lde", states, states)
    vectors = torch.linalg.eigh(covariance).eigenvectors.flip(-1)[..., :COMPONENTS]
    return torch.einsum("adk,bdk->abk", vectors, vectors).abs().mean(-1)
