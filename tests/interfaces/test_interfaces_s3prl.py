"""The featurizer inside s3prl itself, on a small random HuBERT."""

import json

import pytest
import torch
import transformers
from torch import nn

import SSL_Interface
from ssl_bench.upstreams import s3prl as shims
from SSL_Interface import Featurizer

LAYERS, WIDTH = 4, 16


@pytest.fixture(scope="module")
def s3prl_nn():
    """``s3prl.nn.upstream``, imported as our s3prl upstream does."""
    shims._hub()
    from s3prl.nn import upstream

    return upstream


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("hubert")
    torch.manual_seed(1)
    config = transformers.HubertConfig(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS - 1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=5,
        num_conv_pos_embedding_groups=2,
        layerdrop=0.0,
    )
    transformers.HubertModel(config).save_pretrained(path)
    settings = {"do_normalize": True, "feature_extractor_type": "Wav2Vec2FeatureExtractor"}
    (path / "preprocessor_config.json").write_text(json.dumps(settings))
    return str(path)


@pytest.fixture(scope="module")
def upstream(s3prl_nn, folder):
    return s3prl_nn.S3PRLUpstream("hf_hubert_custom", folder).eval()


@pytest.fixture(scope="module")
def batch():
    samples = torch.tensor([9_000, 16_000, 4_321])
    waves = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0))
    return waves * (torch.arange(16_000) < samples[:, None]), samples


@pytest.fixture(scope="module")
def states(upstream, batch):
    with torch.no_grad():
        return upstream(*batch)


class Downstream(nn.Module):
    """Mean over valid frames, one linear layer, cross-entropy."""

    def __init__(self, input_size):
        super().__init__()
        self.linear = nn.Linear(input_size, 3)

    output_size = 3

    def forward(self, hs, hs_len, labels):
        valid = torch.arange(hs.shape[1]) < hs_len[:, None]
        pooled = (hs * valid[..., None]).sum(1) / hs_len[:, None]
        return nn.functional.cross_entropy(self.linear(pooled), labels)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("layers", [None, [0, 3], [2, 1]], ids=str)
def test_weighted_sum_is_theirs(s3prl_nn, upstream, states, layers, normalize):
    theirs = s3prl_nn.Featurizer(upstream, layers, normalize)
    with torch.no_grad():
        theirs.weights.copy_(torch.linspace(-1, 1, len(theirs.weights)))
    mine = Featurizer(upstream, layers, normalize)
    mine.load_state_dict(theirs.state_dict())
    expected, expected_lengths = theirs(*states)
    features, lengths = mine(*states)
    assert torch.equal(lengths, expected_lengths)
    assert features.shape == expected.shape
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(features[row, :length], expected[row, :length])
        assert not features[row, length:].any()
    assert (mine.output_size, mine.downsample_rate) == (theirs.output_size, theirs.downsample_rate)


def test_one_selected_layer_where_theirs_stops(s3prl_nn, upstream, states):
    with pytest.raises(AssertionError):
        s3prl_nn.Featurizer(upstream, [2])(*states)
    features, lengths = Featurizer(upstream, [2])(*states)
    valid = torch.arange(features.shape[1]) < lengths[:, None]
    torch.testing.assert_close(features[valid], states[0][2][valid])


@pytest.mark.parametrize("normalize", [False, True])
def test_upstream_of_one_layer(s3prl_nn, normalize):
    fbank = s3prl_nn.S3PRLUpstream("fbank").eval()
    all_hs, all_lens = fbank(torch.randn(2, 8000), torch.tensor([8000, 8000]))
    assert len(all_hs) == 1
    expected, _ = s3prl_nn.Featurizer(fbank, normalize=normalize)(all_hs, all_lens)
    mine = Featurizer(fbank, normalize=normalize)
    torch.testing.assert_close(mine(all_hs, all_lens)[0], expected)
    assert mine.downsample_rate == 160


def fitted(name, upstream, states, **options):
    torch.manual_seed(3)
    featurizer = Featurizer(upstream, interface=name, **options)
    with torch.no_grad():
        for parameter in featurizer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if featurizer.interface.needs_fit:
        all_hs, all_lens = states
        featurizer.interface.fit_batch(all_hs, all_lens[0])
        featurizer.interface.fit_finish()
    return featurizer


@pytest.mark.parametrize("name", SSL_Interface.names())
def test_training_step_of_their_model(s3prl_nn, upstream, batch, states, name):
    featurizer = fitted(name, upstream, states)
    model = s3prl_nn.UpstreamDownstreamModel(
        upstream, featurizer, Downstream(featurizer.output_size)
    )
    assert model.downsample_rate == 320
    labels = torch.tensor([0, 1, 2])
    trained = [*featurizer.parameters(), *model.downstream.parameters()]
    before = [parameter.clone() for parameter in trained]
    optimizer = torch.optim.AdamW(trained, 1e-3)
    model(*batch, labels).backward()
    assert all(parameter.grad is None for parameter in upstream.parameters())
    for key, parameter in featurizer.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key
    optimizer.step()
    assert not any(map(torch.equal, before, trained))
    assert model(*batch, labels).isfinite()


@pytest.mark.parametrize("name", SSL_Interface.names())
def test_gradients_reach_a_trainable_upstream(s3prl_nn, folder, batch, states, name):
    upstream = s3prl_nn.S3PRLUpstream("hf_hubert_custom", folder).eval()
    featurizer = fitted(name, upstream, states)
    model = s3prl_nn.UpstreamDownstreamModel(
        upstream, featurizer, Downstream(featurizer.output_size), upstream_trainable=True
    )
    model(*batch, torch.tensor([0, 1, 2])).backward()
    encoder = upstream.upstream.model.encoder
    for layer in encoder.layers:
        assert layer.feed_forward.output_dense.weight.grad.abs().max() > 0
