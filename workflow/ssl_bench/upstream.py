"""The upstream stage: load an encoder once and record what was probed."""

import json

from ssl_bench.features import load_upstream, weights_digest
from ssl_bench.fine_tuning import parts_of
from ssl_bench.study import Study
from ssl_bench.upstreams._checkpoints import file_digest
from ssl_bench.whole import whole


def describe(study: Study, name: str) -> None:
    """Write an upstream's L, D, stride, parameter count and hashes.

    ``files``: SHA-256 of every file that weights were read from, by its name; ``weights_sha256``:
    of the weights as they are used, which random ones have as well.
    """
    encoder = load_upstream(study, name, "cpu")
    layers, dim = encoder.probe()
    if study.fine_tune_of(name) is not None:
        parts_of(study, name, encoder)  # refused now, before anything is encoded
    about = {
        "upstream": name,
        "kind": study.upstream_config(name).kind,
        "layers": layers,
        "dim": dim,
        "stride": encoder.stride,
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "files": {path.name: file_digest(path) for path in encoder.files},
        "weights_sha256": weights_digest(encoder),
    }
    path = study.upstream_file(name)
    with whole(path) as place:
        place.write_text(json.dumps(about, indent=1) + "\n")
