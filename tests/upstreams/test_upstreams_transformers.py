"""The transformers upstream: states, batches, wave normalisation, loading."""

import json

import pytest
import torch
import transformers

from ssl_bench.errors import StudyError
from ssl_bench.upstreams.base import Upstream
from ssl_bench.upstreams.transformers import Config, load

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 5,
    "num_conv_pos_embedding_groups": 2,
}
MODELS = {
    "hubert-post": (transformers.HubertConfig, transformers.HubertModel, {}),
    "hubert-group-pre": (
        transformers.HubertConfig,
        transformers.HubertModel,
        {"do_stable_layer_norm": True},
    ),
    "hubert-pre": (
        transformers.HubertConfig,
        transformers.HubertModel,
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
    ),
    "wav2vec2-post": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model, {}),
    "wav2vec2-pre": (
        transformers.Wav2Vec2Config,
        transformers.Wav2Vec2Model,
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
    ),
    "wavlm-post": (transformers.WavLMConfig, transformers.WavLMModel, {}),
    "wavlm-pre": (
        transformers.WavLMConfig,
        transformers.WavLMModel,
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
    ),
    "data2vec": (
        transformers.Data2VecAudioConfig,
        transformers.Data2VecAudioModel,
        {"conv_pos_kernel_size": 5},
    ),
}
SAMPLES = (9000, 16000, 4321, 400)


def save(folder, name, normalize=False):
    """Save a tiny random model of a family and return its folder."""
    config_class, model_class, extra = MODELS[name]
    torch.manual_seed(1)
    model_class(config_class(**{**TINY, **extra})).save_pretrained(folder)
    settings = {"do_normalize": normalize, "feature_extractor_type": "Wav2Vec2FeatureExtractor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return str(folder)


def waves(samples=SAMPLES):
    """Noise of very different levels, so that shared statistics would show."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, generator=generator) * 0.01 * 5**i for i, n in enumerate(samples)]


@pytest.fixture(params=MODELS)
def upstream(request, tmp_path) -> Upstream:
    return load(Config(kind="transformers", model=save(tmp_path, request.param)))


def test_batch_equals_one_by_one(upstream):
    states, lengths = upstream(waves())
    assert lengths.tolist() == [(n - 400) // 320 + 1 for n in SAMPLES]
    assert lengths.tolist() == [upstream.frames(n) for n in SAMPLES]
    assert states.shape == (4, len(SAMPLES), max(lengths), 16)
    for i, wave in enumerate(waves()):
        alone, length = upstream([wave])
        assert length == lengths[i]
        torch.testing.assert_close(states[:, i, : lengths[i]], alone[:, 0], atol=1e-4, rtol=0)
        assert not states[:, i, lengths[i] :].any()


@pytest.mark.parametrize("name", MODELS)
def test_states_are_block_inputs_and_encoder_output(name, tmp_path):
    """Rebuild the states from the pieces of an untouched model."""
    folder = save(tmp_path, name)
    states, _ = load(Config(kind="transformers", model=folder))(waves()[:1])
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        x = model.feature_extractor(waves()[0][None]).transpose(1, 2)
        projected = model.feature_projection(x)
        x = projected[0] if isinstance(projected, tuple) else projected
        x = x + model.encoder.pos_conv_embed(x)
        pre = getattr(model.config, "do_stable_layer_norm", False)
        if not pre:
            x = model.encoder.layer_norm(x)
        torch.testing.assert_close(states[0], x)
        last = model(waves()[0][None]).last_hidden_state
    torch.testing.assert_close(states[-1], last)
    if pre:
        normal = model.encoder.layer_norm
        centred = (last - normal.bias) / normal.weight
        torch.testing.assert_close(centred.mean(-1), torch.zeros(last.shape[:2]), atol=1e-4, rtol=0)


def test_frozen_and_without_dropout_whatever_the_mode(tmp_path):
    upstream = load(Config(kind="transformers", model=save(tmp_path, "hubert-post")))
    upstream.train()
    first, _ = upstream(waves()[:2])
    upstream.train()
    second, _ = upstream(waves()[:2])
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert not any(p.requires_grad for p in upstream.parameters())


def test_wave_normalisation_follows_the_folder_and_the_key(tmp_path):
    folder = save(tmp_path, "hubert-pre", normalize=True)
    quiet, loud = waves()[0], waves()[0] * 30 + 1

    def gap(**keys):
        upstream = load(Config(kind="transformers", model=folder, **keys))
        return (upstream([quiet])[0] - upstream([loud])[0]).abs().max()

    assert gap() < 2e-2
    assert gap(normalize=False) > 0.1


def test_untrained_is_random_reproducible_and_leaves_the_rng_alone(tmp_path):
    folder = save(tmp_path, "hubert-pre")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)

    def states(seed, untrained=True):
        config = Config(kind="transformers", model=folder, untrained=untrained, seed=seed)
        return load(config)(waves()[:1])[0]

    first = states(3)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, states(3))
    assert not torch.allclose(first, states(4))
    assert not torch.allclose(first, states(3, untrained=False))


def test_probe(tmp_path):
    assert load(Config(kind="transformers", model=save(tmp_path, "wavlm-pre"))).probe() == (4, 16)


def test_too_short_recording(tmp_path):
    upstream = load(Config(kind="transformers", model=save(tmp_path, "hubert-post")))
    with pytest.raises(StudyError, match=r"399 samples.*at least 400"):
        upstream([torch.randn(399)])


def test_missing_model_and_other_family(tmp_path):
    with pytest.raises(StudyError, match="nowhere"):
        load(Config(kind="transformers", model=str(tmp_path / "nowhere")))
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(StudyError, match=r"'bert'.*known: .*wavlm"):
        load(Config(kind="transformers", model=str(tmp_path)))


def test_missing_weights_are_an_error(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = save(tmp_path, "hubert-post")
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("encoder.layers.1.attention.k_proj.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StudyError, match=r"layers\.1\.attention\.k_proj"):
        load(Config(kind="transformers", model=folder))
