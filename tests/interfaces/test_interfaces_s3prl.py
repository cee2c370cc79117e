"""The featurizer inside s3prl itself, on a small random HuBERT."""

import pytest
import torch
from torch.nn.functional import cross_entropy

import SSL_Interface
from ssl_bench.upstreams import s3prl as shims
from SSL_Interface import Featurizer


@pytest.fixture(scope="module")
def s3prl_nn():
    """``s3prl.nn.upstream``, imported as our s3prl upstream does."""
    shims.hub()
    from s3prl.nn import upstream

    return upstream


@pytest.fixture(scope="module")
def upstream(s3prl_nn, hubert_folder):
    return s3prl_nn.S3PRLUpstream("hf_hubert_custom", hubert_folder).eval()


@pytest.fixture(scope="module")
def batch():
    samples = torch.tensor([9_000, 16_000, 4_321])
    waves = 0.1 * torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0))
    return waves * (torch.arange(16_000) < samples[:, None]), samples


@pytest.fixture(scope="module")
def states(upstream, batch):
    with torch.no_grad():
        return upstream(*batch)


def train(s3prl_nn, upstream, featurizer, batch, **options):
    """One backward of s3prl's model with SUPERB's utterance head."""
    from s3prl.nn import MeanPoolingLinear

    head = MeanPoolingLinear(featurizer.output_size, 3)
    model = s3prl_nn.UpstreamDownstreamModel(upstream, featurizer, head, **options)
    assert (model.downsample_rate, model.output_size) == (320, 3)
    cross_entropy(model(*batch), torch.tensor([0, 1, 2])).backward()
    return model


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
    model = train(s3prl_nn, upstream, featurizer, batch)
    assert all(parameter.grad is None for parameter in upstream.parameters())
    for key, parameter in featurizer.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key
    trained = [*featurizer.parameters(), *model.downstream.parameters()]
    before = [parameter.clone() for parameter in trained]
    torch.optim.AdamW(trained, 1e-3).step()
    assert not any(map(torch.equal, before, trained))
    assert model(*batch).isfinite().all()


@pytest.mark.parametrize("name", SSL_Interface.names())
def test_gradients_reach_a_trainable_upstream(s3prl_nn, hubert_folder, batch, states, name):
    upstream = s3prl_nn.S3PRLUpstream("hf_hubert_custom", hubert_folder).eval()
    featurizer = fitted(name, upstream, states)
    train(s3prl_nn, upstream, featurizer, batch, upstream_trainable=True)
    for layer in upstream.upstream.model.encoder.layers:
        assert layer.feed_forward.output_dense.weight.grad.abs().max() > 0
