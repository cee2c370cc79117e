"""How much each layer counts for a trained run."""

import copy

import numpy as np
import pandas as pd
import torch

from ssl_bench.features import Features
from ssl_bench.runs import Runs


def layer_profiles(runs: Runs, features: Features, rows: np.ndarray) -> pd.DataFrame:
    """Return a row per run and layer: ``weight``, ``norm``, ``share``, ``kind``.

    Args:
        runs: trained runs; single-layer probes have no profile and give no row.
        features: the stream.
        rows: utterances that the profile is measured on.

    ``weight`` is the softmax weight where the interface has one, ``norm`` the mean L2 norm of the
    layer's states, ``share`` the interface's ``layer_profile``, which sums to one, and ``kind``
    says what that is.
    """
    columns = ["seed", "layer", "weight", "norm", "share", "kind"]
    if runs.runs[0].layer is not None or features.layers == 1:
        return pd.DataFrame(columns=columns)
    batch, lengths = features.batch(rows, int(features.frames[rows].max()))
    states, lengths = runs.states(batch, lengths).float().cpu(), lengths.cpu()
    valid = torch.arange(states.shape[2], device=states.device) < lengths[:, None]
    norms = states.norm(dim=-1)[:, valid].mean(1)
    table = []
    for r, run in enumerate(runs.runs):
        interface = copy.deepcopy(runs.module(r).interface).cpu()
        share = interface.layer_profile(states, lengths)
        weights = interface.layer_weights()
        for layer in range(features.layers):
            table.append(
                {
                    "seed": run.seed,
                    "layer": layer,
                    "weight": float(weights[layer]) if weights is not None else None,
                    "norm": float(norms[layer]),
                    "share": float(share[layer]),
                    "kind": interface.profile_kind,
                }
            )
    return pd.DataFrame(table, columns=columns)
