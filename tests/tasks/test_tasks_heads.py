"""Heads: published shapes, blindness to padding, and stacked runs equal to separate ones."""

import math

import pytest
import torch
from torch.func import functional_call, stack_module_state

from ssl_bench import registry
from ssl_bench.heads.bilstm import BiLSTMHead, packed, two_ways
from ssl_bench.heads.conv_transformer import ConvTransformerHead
from ssl_bench.heads.masking import masked_mean, masked_mean_std
from ssl_bench.heads.specaugment import SpecAugment, SpecAugmentConfig
from ssl_bench.heads.utterance_linear import UtteranceLinearHead
from ssl_bench.heads.xvector import XVectorHead

DIM = 10
KINDS = registry.kinds("tasks")
STACKABLE = [kind for kind in KINDS if registry.load("tasks", kind).Task.stackable]


def shapes(head: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in head.named_parameters()}


def weights_seeded(make, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return make().double()


# ---- published sizes


def test_pr_head_has_s3prls_shapes(small, tmp_path):
    # s3prl downstream/ctc: projector, model.linear; 71 phones and 3 specials.
    phones = ["Y", "EH", "S", "N", "OW", "T", "AA", "P"] + [f"X{i}" for i in range(63)]
    file = tmp_path / "phoneme.txt"
    file.write_text("\n".join(phones))
    head = small.task("pr", vocabulary_file=str(file)).head(768)
    assert shapes(head) == {
        "projector.weight": (256, 768),
        "projector.bias": (256,),
        "linear.weight": (74, 256),
        "linear.bias": (74,),
    }


def test_utterance_head_has_s3prls_shapes(small):
    # s3prl downstream/speech_commands: projector, model.post_net.linear; here 3 keywords.
    assert shapes(small.task("ks").head(768)) == {
        "projector.weight": (256, 768),
        "projector.bias": (256,),
        "linear.weight": (3, 256),
        "linear.bias": (3,),
    }


def test_ic_head_has_one_output_for_each_value_of_each_slot(small):
    assert shapes(small.task("ic").head(768))["linear.weight"] == (2 + 2 + 3, 256)


def test_asr_head_has_s3prls_shapes(small):
    # s3prl downstream/asr: Linear(D, 1024), LSTM(1024), LSTM(2048), Linear(2048, V).
    task = small.task("asr")
    found = shapes(task.head(768))
    expected = {"projector.weight": (1024, 768), "projector.bias": (1024,)}
    for layer, width in enumerate((1024, 2048)):
        for way in ("", "_reverse"):
            expected[f"rnns.{layer}.weight_ih_l0{way}"] = (4096, width)
            expected[f"rnns.{layer}.weight_hh_l0{way}"] = (4096, 1024)
            expected[f"rnns.{layer}.bias_ih_l0{way}"] = (4096,)
            expected[f"rnns.{layer}.bias_hh_l0{way}"] = (4096,)
    expected |= {"linear.weight": (len(task.symbols), 2048), "linear.bias": (len(task.symbols),)}
    assert found == expected


def test_sv_head_has_s3prls_shapes(small):
    # s3prl downstream/sv_voxceleb1: connector, XVector (TDNN kernels), UtteranceExtractor, W.
    found = shapes(small.task("sv").head(768))
    weights = {name: shape for name, shape in found.items() if not name.endswith("bias")}
    assert weights == {
        "connector.weight": (512, 768),
        "tdnn.0.kernel.weight": (512, 2560),
        "tdnn.1.kernel.weight": (512, 1536),
        "tdnn.2.kernel.weight": (512, 1536),
        "tdnn.3.kernel.weight": (512, 512),
        "tdnn.4.kernel.weight": (1500, 512),
        "linear1.weight": (512, 3000),
        "linear2.weight": (512, 512),
        "speakers": (512, 4),
    }


def test_mono_asr_head_has_espnets_shapes(small):
    # ESPnet: preencoder, encoder.embed (Conv2dSubsampling2), encoders.{0,1}, after_norm, ctc_lo.
    task = small.task("mono_asr")
    found = shapes(task.head(768))
    weights = {n: s for n, s in found.items() if not n.endswith("bias") and "norm" not in n}
    expected = {
        "projector.weight": (80, 768),
        "conv.0.weight": (256, 1, 3, 3),
        "conv.2.weight": (256, 256, 3, 3),
        "subsample.weight": (256, 9472),
        "linear.weight": (len(task.symbols), 256),
    }
    for layer in range(2):
        expected[f"layers.{layer}.qkv.weight"] = (3 * 256, 256)
        expected[f"layers.{layer}.out.weight"] = (256, 256)
        expected[f"layers.{layer}.feed_forward.0.weight"] = (1024, 256)
        expected[f"layers.{layer}.feed_forward.3.weight"] = (256, 1024)
    assert weights == expected


# ---- padding


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("lengths", [[40, 23, 16], [40, 9, 3]], ids=["long", "short"])
def test_padding_changes_no_valid_output(small, kind, training, lengths):
    task = small.task(kind, **small.small.get(kind, {}))
    head = weights_seeded(lambda: task.head(DIM), 0).train(training)
    features, lengths = small.batch(DIM, lengths, dtype=torch.float64)
    padding = ~(torch.arange(features.shape[1]) < lengths[:, None])
    together, out_lengths = head(features.masked_fill(padding[..., None], 7.0), lengths)
    for i, length in enumerate(lengths):
        alone, alone_length = head(features[i : i + 1, :length], length[None])
        assert alone_length[0] == out_lengths[i]
        valid = together[i, : out_lengths[i]] if together.dim() == 3 else together[i]
        expected = alone[0, : alone_length[0]] if alone.dim() == 3 else alone[0]
        torch.testing.assert_close(valid, expected, rtol=1e-9, atol=1e-11)


def test_conv2d2_keeps_every_frame_that_needs_no_padding(small):
    head = small.task("mono_asr", **small.small["mono_asr"]).head(DIM).eval()
    for frames in range(7, 30):
        features, lengths = small.batch(DIM, [frames])
        outputs, out_lengths = head(features, lengths)
        assert out_lengths[0] == outputs.shape[1]


# ---- stacked runs


@pytest.mark.parametrize("kind", STACKABLE)
@pytest.mark.parametrize("activation", ["none", "relu"])
def test_stacked_runs_equal_separate_runs(small, kind, activation):
    keys = dict(small.small.get(kind, {}))
    if kind in ("mono_asr", "multi_asr", "multi_lid", "sv"):
        if activation == "relu":
            pytest.skip("no such key: the head has non-linearities of its own")
    else:
        keys["activation"] = activation
    task = small.task(kind, **keys)
    runs = [weights_seeded(lambda: task.head(DIM), seed).train() for seed in range(3)]
    batches = [
        small.batch(DIM, [30, 17, 21], 1, torch.float64),
        small.batch(DIM, [30, 9, 28], 2, torch.float64),
        small.batch(DIM, [19, 30, 8], 3, torch.float64),
    ]
    features = torch.stack([features for features, _ in batches])
    lengths = torch.stack([lengths for _, lengths in batches])
    stacked, buffers = stack_module_state(runs)

    def run(parameters, buffers, features, lengths):
        return functional_call(runs[0], (parameters, buffers), (features, lengths))

    outputs, out_lengths = torch.vmap(run, randomness="different")(
        stacked, buffers, features, lengths
    )
    outputs.square().sum().backward()
    for r, head in enumerate(runs):
        expected, expected_lengths = head(features[r], lengths[r])
        torch.testing.assert_close(outputs[r], expected, rtol=1e-9, atol=1e-11)
        assert torch.equal(out_lengths[r], expected_lengths)
        expected.square().sum().backward()
        for name, parameter in head.named_parameters():
            torch.testing.assert_close(stacked[name].grad[r], parameter.grad, rtol=1e-8, atol=1e-9)


def test_specaugment_and_dropout_run_stacked_and_differ_between_runs(small):
    task = small.task("mono_asr", **{**small.small["mono_asr"], "dropout": 0.1})
    torch.manual_seed(0)
    config = SpecAugmentConfig(feature_masks=2, feature_width=4, time_masks=2, time_ratio=0.3)
    head = ConvTransformerHead(DIM, len(task.symbols), 12, 16, 1, 2, 32, 0.1, config).train()
    features, lengths = small.batch(DIM, [30, 20])
    stacked, buffers = stack_module_state([head, head])

    def run(parameters, buffers):
        return functional_call(head, (parameters, buffers), (features, lengths))

    outputs, _ = torch.vmap(run, randomness="different")(stacked, buffers)
    assert not torch.allclose(outputs[0], outputs[1])
    assert torch.isfinite(outputs).all()


def test_bilstm_trains_through_functional_call(small):
    head = BiLSTMHead(DIM, 5, 8, 2, 0.0, None)
    features, lengths = small.batch(DIM, [12, 7])
    parameters = {n: p.detach().clone().requires_grad_() for n, p in head.named_parameters()}
    outputs, _ = functional_call(head, parameters, (features, lengths))
    outputs.sum().backward()
    head(features, lengths)[0].sum().backward()
    for name, parameter in head.named_parameters():
        torch.testing.assert_close(parameters[name].grad, parameter.grad)


def test_two_one_way_lstms_are_the_packed_one_and_its_gradients():
    torch.manual_seed(0)
    rnn = torch.nn.LSTM(5, 4, batch_first=True, bidirectional=True).double()
    x, lengths = torch.randn(4, 9, 5, dtype=torch.float64), torch.tensor([9, 1, 6, 3])
    found, expected = (run(rnn, x, lengths) for run in (two_ways, packed))
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad((found * weight).sum(), rnn.parameters()),
        torch.autograd.grad((expected * weight).sum(), rnn.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_run_in_bf16_autocast(small, kind):
    head = small.task(kind, **small.small.get(kind, {})).head(DIM)
    features, lengths = small.batch(DIM, [30, 17])
    exact, _ = head(features, lengths)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, _ = head(features, lengths)
    outputs.float().square().sum().backward()
    torch.testing.assert_close(outputs.float(), exact, rtol=0.1, atol=0.1)
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


# ---- parts


def test_pooling_agrees_with_torch_on_each_utterance(small):
    features, lengths = small.batch(DIM, [12, 5, 2], dtype=torch.float64)
    pooled = masked_mean_std(features, lengths)
    for i, length in enumerate(lengths):
        valid = features[i, :length]
        expected = torch.cat([valid.mean(0), valid.std(0)])
        torch.testing.assert_close(pooled[i], expected)
        torch.testing.assert_close(masked_mean(features, lengths)[i], valid.mean(0))


def test_a_constant_channel_has_no_nan_gradient():
    features = torch.zeros(2, 6, 3, requires_grad=True)
    masked_mean_std(features, torch.tensor([6, 1])).sum().backward()
    assert torch.isfinite(features.grad).all()


def test_pooling_before_the_projection_is_the_published_order(small):
    head = UtteranceLinearHead(DIM, 16, 4).double()
    features, lengths = small.batch(DIM, [12, 5], dtype=torch.float64)
    published = head.linear(masked_mean(head.projector(features), lengths))
    torch.testing.assert_close(head(features, lengths)[0], published)


def test_tdnn_sees_fifteen_frames(small):
    head = XVectorHead(DIM, 3, 8, 8).double()
    features = small.batch(DIM, [15], dtype=torch.float64)[0].requires_grad_()
    x = head.tdnn(head.connector(features))
    assert x.shape[1] == 1
    x.sum().backward()
    assert (features.grad.abs().sum(-1) > 0).all()


def test_specaugment_masks_per_example_within_bounds_in_training_only():
    torch.manual_seed(0)
    augment = SpecAugment(
        SpecAugmentConfig(feature_masks=1, feature_width=5, time_masks=1, time_width=8)
    )
    features, lengths = torch.ones(400, 50, 20), torch.full((400,), 30)
    masked = augment(features, lengths)
    bands = (masked[:, 40:] == 0).all(1).sum(1)
    times = (masked == 0).all(2).sum(1)
    assert bands.unique().tolist() == [0, 1, 2, 3, 4]
    assert times.unique().tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert not (masked[:, 30:] == 0).all(2).any()
    assert torch.equal(augment.eval()(features, lengths), features)


def test_specaugment_ratio_bounds_time_masks_by_the_utterance():
    torch.manual_seed(0)
    augment = SpecAugment(
        SpecAugmentConfig(feature_masks=0, feature_width=0, time_masks=1, time_ratio=0.05)
    )
    lengths = torch.tensor([100, 19] * 200)
    widths = (augment(torch.ones(400, 100, 2), lengths) == 0).all(2).sum(1)
    assert widths[::2].max() == 4
    assert widths[1::2].max() == 0


def test_transformer_layer_agrees_with_torch(small):
    from ssl_bench.heads.transformer import TransformerLayer

    torch.manual_seed(0)
    ours = TransformerLayer(16, 4, 32, 0.0).double()
    theirs = torch.nn.TransformerEncoderLayer(
        16, 4, 32, 0.0, batch_first=True, norm_first=True, layer_norm_eps=1e-12
    ).double()
    names = {
        "self_attn.in_proj_": "qkv.",
        "self_attn.out_proj.": "out.",
        "linear1.": "feed_forward.0.",
        "linear2.": "feed_forward.3.",
        "norm1.": "attention_norm.",
        "norm2.": "feed_forward_norm.",
    }
    for old, new in names.items():
        for kind in ("weight", "bias"):
            theirs.get_parameter(old + kind).data = ours.get_parameter(new + kind).data
    x, lengths = small.batch(16, [9, 5], dtype=torch.float64)
    mask = torch.arange(9) < lengths[:, None]
    expected = theirs(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours(x, mask)[mask], expected[mask])


def test_positions_are_sinusoids():
    from ssl_bench.heads.transformer import sinusoids

    table = sinusoids(4, 6, torch.zeros(1, dtype=torch.float64))
    assert table[3, 2].item() == pytest.approx(math.sin(3 / 10_000 ** (2 / 6)), abs=1e-6)
    assert table[3, 3].item() == pytest.approx(math.cos(3 / 10_000 ** (2 / 6)), abs=1e-6)
