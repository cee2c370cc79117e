"""The encoder without padding gives the states of transformers' own forward pass."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
import transformers

from ssl_bench.upstreams.transformers import TransformersUpstream, packable

triton = pytest.importorskip("triton")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "conv_dim": (24,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
FAMILIES = {
    "hubert": (transformers.HubertConfig, transformers.HubertModel),
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel),
}
LENGTHS = {"ragged": (2100, 3000, 400), "even": (1700, 1700)}
CASES = [
    ("hubert", {}, False, "ragged"),
    ("wav2vec2", LARGE, True, "ragged"),
    ("hubert", {"do_stable_layer_norm": True}, False, "even"),
    ("wavlm", {}, False, "ragged"),
    ("wavlm", LARGE, True, "ragged"),
    ("wavlm", {"num_buckets": 16, "max_bucket_distance": 8}, False, "even"),
]


def encoder(family: str, extra: dict, normalize: bool = False) -> TransformersUpstream:
    torch.manual_seed(0)
    config, model = FAMILIES[family]
    made = model(config(**SIZES, **extra))
    for name, parameter in made.named_parameters():  # norms and gates that do something
        if "norm" in name or "rel_" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return TransformersUpstream(made, normalize)


def waves(lengths: tuple[int, ...], device: str = "cpu") -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [(torch.randn(n, generator=generator) * 0.1 + 0.02).to(device) for n in lengths]


def in_a_row(upstream: TransformersUpstream, waveforms: list[torch.Tensor]) -> torch.Tensor:
    states, lengths = upstream(waveforms)
    own = [states[:, b, :n].transpose(0, 1) for b, n in enumerate(lengths.tolist())]
    return torch.cat(own)  # (N, L, D)


def errors(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Return each state's error beside its length, (N, L)."""
    return (found.float() - expected).norm(dim=-1) / expected.norm(dim=-1)


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the largest error of a state beside its length."""
    return float(errors(found, expected).max())


def attend_one_by_one(query, key, value, ends, *_):  # type: ignore[no-untyped-def]
    """Do on a CPU what flash attention does for sequences of unequal length."""
    parts = []
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        three = (x[start:end].transpose(0, 1) for x in (query, key, value))
        parts.append(F.scaled_dot_product_attention(*three).transpose(0, 1))
    return torch.cat(parts)


def compare() -> None:
    """Compare in fp32 on a CPU; run with triton's interpreter, which is chosen at its import."""
    from ssl_bench.upstreams import _attention, _packed

    _attention.varlen_attn = attend_one_by_one
    for family, extra, normalize, lengths in CASES:
        upstream, sound = encoder(family, extra, normalize), waves(LENGTHS[lengths])
        found = _packed.PackedEncoder(upstream.model, normalize, torch.float32)(sound)
        error = distance(found, in_a_row(upstream, sound))
        assert error < 1e-5, (family, extra, normalize, lengths, error)


def test_the_mathematics_is_the_same() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_what_is_not_known_is_left_to_transformers() -> None:
    taken = {"model_type": "hubert", "hidden_act": "gelu", "feat_extract_activation": "gelu"}
    size = {"hidden_size": 64, "num_attention_heads": 4}
    for change in (
        {"model_type": "data2vec-audio"},
        {"hidden_act": "relu"},
        {"adapter_attn_dim": 8},
    ):
        assert not packable(type("C", (), {**taken, **size, **change}))


def test_on_a_cpu_frames_are_those_of_the_batch() -> None:
    upstream = encoder("hubert", {})
    found = upstream.packed(waves(LENGTHS["ragged"]), False, torch.bfloat16)
    expected = in_a_row(upstream, waves(LENGTHS["ragged"])).to(torch.bfloat16)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)


@needs_gpu
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("extra", [{}, LARGE], ids=["base", "large"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_gives_the_states_to_bf16(family: str, extra: dict, lengths: str) -> None:
    upstream = encoder(family, extra).cuda()
    sound = waves(LENGTHS[lengths], "cuda")
    expected = in_a_row(upstream, sound)
    found = upstream.packed(sound, False, torch.bfloat16)
    assert upstream._packed is not None
    # transformers under autocast: 0.029 and 0.016 at most; so narrow a model has short states
    assert distance(found, expected) < 0.08
    assert errors(found, expected).mean() < 0.025
    alone = upstream.packed(sound[:1], False, torch.bfloat16)
    assert distance(found[: len(alone)], alone.float()) < 0.02


@needs_gpu
@pytest.mark.parametrize("family", ["hubert", "wavlm"])
def test_a_gpu_encodes_s3prls_experts_the_same_way(family: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("s3prl")
    from random_checkpoints import BASE, Case, build, checkpoint_of

    from ssl_bench.upstreams import s3prl

    case = Case(family, BASE, False, dim=64)
    model, settings = build(case)
    torch.save(checkpoint_of(case, model, settings), tmp_path / "checkpoint.pt")
    path = str(tmp_path / "checkpoint.pt")
    upstream = s3prl.load(s3prl.Config(kind="s3prl", name=f"{family}_local", path=path)).cuda()
    sound = waves((2100, 3000, 900), "cuda")
    expected = in_a_row(upstream, sound)
    found = upstream.packed(sound, False, torch.bfloat16)
    (twin,) = upstream.twins()
    assert twin._packed is not None
    assert distance(found, expected) < 0.05


if __name__ == "__main__":
    compare()
