"""The s3prl upstream: against our own upstreams, batches, mistakes."""

import json
import re
import sys

import pytest
import torch
import transformers

from ssl_bench.errors import StudyError
from ssl_bench.upstreams import fbank, s3prl
from ssl_bench.upstreams import transformers as ours

SAMPLES = (9_000, 16_000, 4_321, 9_000)


def waves(samples=SAMPLES):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, generator=generator) * 0.01 * 3**i for i, n in enumerate(samples)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random post-norm HuBERT with a GroupNorm frontend: the one that padding disturbs."""
    path = tmp_path_factory.mktemp("hubert")
    torch.manual_seed(1)
    config = transformers.HubertConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=5,
        num_conv_pos_embedding_groups=2,
    )
    transformers.HubertModel(config).save_pretrained(path)
    settings = {"do_normalize": True, "feature_extractor_type": "Wav2Vec2FeatureExtractor"}
    (path / "preprocessor_config.json").write_text(json.dumps(settings))
    return str(path)


def test_hugging_face_folder_agrees_with_ours(folder):
    theirs = s3prl.load(s3prl.Config(kind="s3prl", name="hf_hubert_custom", path=folder))
    mine = ours.load(ours.Config(kind="transformers", model=folder))
    expected, expected_lengths = mine(waves())
    states, lengths = theirs(waves())
    assert torch.equal(lengths, expected_lengths)
    torch.testing.assert_close(states, expected, atol=1e-4, rtol=0)
    assert theirs.stride == 320
    assert theirs.probe() == (4, 16)
    assert [theirs.frames(n) for n in range(800, 20_000, 777)] == [
        mine.frames(n) for n in range(800, 20_000, 777)
    ]


def test_batch_equals_one_by_one(folder):
    upstream = s3prl.load(s3prl.Config(kind="s3prl", name="hf_hubert_custom", path=folder))
    states, lengths = upstream(waves())
    for i, wave in enumerate(waves()):
        alone, _ = upstream([wave])
        torch.testing.assert_close(states[:, i, : lengths[i]], alone[:, 0], atol=1e-5, rtol=0)
        assert not states[:, i, lengths[i] :].any()
    assert not any(p.requires_grad for p in upstream.parameters())


def test_fbank_agrees_with_ours():
    theirs = s3prl.load(s3prl.Config(kind="s3prl", name="fbank"))
    mine = fbank.load(fbank.Config(kind="fbank", hop_ms=10))
    states, lengths = theirs(waves())
    expected, expected_lengths = mine(waves())
    assert torch.equal(lengths, expected_lengths)
    torch.testing.assert_close(states, expected, atol=1e-4, rtol=0)
    assert theirs.stride == 160
    assert [theirs.frames(n) for n in SAMPLES] == lengths.tolist()


def test_frames_without_a_rule_are_counted(monkeypatch):
    monkeypatch.setattr(s3prl, "RULES", ())
    upstream = s3prl.load(s3prl.Config(kind="s3prl", name="fbank"))
    assert upstream.frames(7_000) == upstream(waves((7_000,)))[1].item() == 42


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "hubert_bass"}, r"no 'hubert_bass'; did you mean 'hubert_base'"),
        ({"name": "hubert_local"}, r"'hubert_local' needs path"),
        ({"name": "hubert_local", "path": "nowhere.pt"}, r"'nowhere.pt'.*is not there"),
        ({"name": "hubert_base", "path": "x.pt"}, r"takes no path"),
    ],
)
def test_mistakes(keys, message):
    with pytest.raises(StudyError, match=message):
        s3prl.load(s3prl.Config(kind="s3prl", **keys))


def test_too_short_recording():
    upstream = s3prl.load(s3prl.Config(kind="s3prl", name="fbank"))
    with pytest.raises(StudyError, match="799 samples"):
        upstream(waves((799,)))


def test_without_s3prl_installed(monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == "s3prl"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "s3prl", None)
    with pytest.raises(StudyError, match="needs the package 's3prl"):
        s3prl.load(s3prl.Config(kind="s3prl", name="fbank"))


NAMES = (
    (r"feature_extractor\.conv_layers\.(\d)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (
        r"feature_extractor\.conv_layers\.(\d)\.2\.(1\.)?",
        r"feature_extractor.conv_layers.\1.layer_norm.",
    ),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"pos_conv\.0\.weight_g", "pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"pos_conv\.0\.weight_v", "pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"pos_conv\.0\.", "pos_conv_embed.conv."),
    (r"self_attn_layer_norm", "layer_norm"),
    (r"self_attn\.", "attention."),
    (r"fc1\.", "feed_forward.intermediate_dense."),
    (r"fc2\.", "feed_forward.output_dense."),
    (r"^mask_emb$", "masked_spec_embed"),
)
"""Parameters of fairseq's HuBERT, and what transformers calls them."""


@pytest.mark.parametrize("large", [False, True], ids=["post-norm", "pre-norm"])
def test_fairseq_hubert_agrees_with_ours(tmp_path, large):
    """s3prl's own HuBERT on random weights, against the same weights in transformers."""
    s3prl._hub()
    from s3prl.upstream.hubert import hubert_model

    layout = {
        "label_rate": 50.0,
        "extractor_mode": "layer_norm" if large else "default",
        "layer_norm_first": large,
        "conv_bias": large,
        "conv_feature_layers": "[(8,10,5)] + [(8,3,2)] * 4 + [(8,2,2)] * 2",
        "encoder_layers": 3,
        "encoder_embed_dim": 16,
        "encoder_ffn_embed_dim": 32,
        "encoder_attention_heads": 2,
        "conv_pos": 6,
        "conv_pos_groups": 2,
        "final_dim": 8,
    }
    task = {"normalize": large, "label_rate": 50.0, "sample_rate": 16_000}
    torch.manual_seed(2)
    model = hubert_model.HubertModel(
        hubert_model.HubertConfig(**layout),
        hubert_model.HubertPretrainingConfig(**task),
        [["a", "b"]],
    )
    # Norms start as the identity: move them, so that a norm left out shows.
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    checkpoint = {
        "task_cfg": task,
        "model_cfg": layout,
        "model_weight": model.state_dict(),
        "dictionaries_symbols": [["a", "b"]],
    }
    torch.save(checkpoint, tmp_path / "hubert.pt")
    theirs = s3prl.load(
        s3prl.Config(kind="s3prl", name="hubert_local", path=str(tmp_path / "hubert.pt"))
    )

    weights = {}
    for name, value in model.state_dict().items():
        if name.startswith(("final_proj", "label_embs")):
            continue
        for pattern, replacement in NAMES:
            name = re.sub(pattern, replacement, name)
        weights[name] = value
    config = transformers.HubertConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        conv_bias=large,
        feat_extract_norm="layer" if large else "group",
        do_stable_layer_norm=large,
        num_conv_pos_embeddings=6,
        num_conv_pos_embedding_groups=2,
    )
    twin = transformers.HubertModel(config)
    twin.load_state_dict(weights)
    mine = ours.TransformersUpstream(twin, normalize=large)
    expected, expected_lengths = theirs(waves())
    states, lengths = mine(waves())
    assert torch.equal(lengths, expected_lengths)
    assert states.shape == expected.shape == (4, len(SAMPLES), 49, 16)
    torch.testing.assert_close(states, expected, atol=1e-4, rtol=0)
