"""The upstream stage: load an encoder once and record what was probed."""

import json

from ssl_bench.features import load_upstream, weights_digest
from ssl_bench.study import Study


def describe(study: Study, name: str) -> None:
    """Write an upstream's L, D, stride, parameter count and a hash of its weights."""
    encoder = load_upstream(study, name, "cpu")
    layers, dim = encoder.probe()
    about = {
        "upstream": name,
        "kind": study.upstream_config(name).kind,
        "layers": layers,
        "dim": dim,
        "stride": encoder.stride,
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "weights_sha256": weights_digest(encoder),
    }
    path = study.upstream_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about, indent=1) + "\n")
