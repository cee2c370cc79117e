"""Hidden states: our transformers path against s3prl's own modules, with the same random weights.

Each case builds s3prl's module at a tiny size, saves it as a checkpoint that s3prl loads, renames
its weights to what transformers calls them and saves those as a Hugging Face folder. Both are then
loaded the way a study loads them.
"""

import re
from importlib import import_module

import pytest
import torch
from random_checkpoints import BASE, CASES, Case, build, checkpoint_of, layout, twin
from torch import nn

from ssl_bench.fine_tuning import Encoder
from ssl_bench.recipe import FineTune
from ssl_bench.upstreams import s3prl
from ssl_bench.upstreams import transformers as ours
from ssl_bench.upstreams._fairseq import as_transformers, renamed

SAMPLES = (16_000, 9_000, 12_345, 4_321, 9_000)

WRAPPERS = r"^model\.|(?<=layer_norm\.)norm\.|module\."
"""What our upstream puts around modules of transformers, in the names of their parameters."""


def waves(samples=SAMPLES):
    """Noise of very different levels and offsets: shared statistics would show."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(n, generator=generator) * 0.01 * 3**i + 0.003 * i for i, n in enumerate(samples)
    ]


@pytest.fixture(scope="module", params=CASES, ids=str)
def pair(request, tmp_path_factory):
    """A case, s3prl's upstream and ours, both loaded from files."""
    case, folder = request.param, tmp_path_factory.mktemp("pair")
    torch.manual_seed(2)
    model, checkpoint = build(case)
    # Norms start as the identity: move them, so that a norm left out shows.
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    weights = model.state_dict()
    torch.save(checkpoint_of(case, model, checkpoint), folder / "checkpoint.pt")
    other = twin(case)
    other.load_state_dict(renamed(weights))
    other.save_pretrained(folder / "folder")
    theirs = s3prl.load(
        s3prl.Config(kind="s3prl", name=f"{case.family}_local", path=str(folder / "checkpoint.pt"))
    )
    mine = ours.load(ours.Config(kind="transformers", model=str(folder / "folder")))
    assert mine.normalize == case.normalize  # by the form, where the folder does not say
    return case, theirs, mine


def test_states_of_a_mixed_batch_are_s3prls(pair):
    case, theirs, mine = pair
    states, lengths = mine(waves())
    assert states.shape == (case.layers + 1, len(SAMPLES), max(lengths), case.dim)
    for i, wave in enumerate(waves()):
        with torch.no_grad():
            expected = theirs.expert([wave])["hidden_states"]
        assert len(expected) == len(states)
        for layer, state in enumerate(expected):
            assert state.shape == (1, lengths[i], case.dim)
            torch.testing.assert_close(
                states[layer, i, : lengths[i]], state[0], atol=1e-4, rtol=0, msg=f"layer {layer}"
            )


def test_both_kinds_give_the_same_stream(pair):
    _, theirs, mine = pair
    expected, expected_lengths = theirs(waves())
    states, lengths = mine(waves())
    assert torch.equal(lengths, expected_lengths)
    torch.testing.assert_close(states, expected, atol=1e-4, rtol=0)
    assert theirs.stride == mine.stride == 320
    assert [theirs.frames(n) for n in range(800, 20_000, 777)] == [
        mine.frames(n) for n in range(800, 20_000, 777)
    ]


def test_s3prls_expert_has_a_twin_of_transformers(pair):
    """What a GPU encodes in its place: the same tensors, and whether waveforms are normalised."""
    case, theirs, mine = pair
    if case.family == "data2vec":
        assert theirs.twins() == []
        return
    (twin,) = theirs.twins()
    assert twin.normalize == case.normalize
    assert type(twin.model) is type(mine.model)
    expected, _ = theirs(waves())
    torch.testing.assert_close(twin(waves())[0], expected, atol=1e-4, rtol=0)
    first = theirs.expert.model.encoder.layers[0].fc1.weight
    shared = twin.model.encoder.layers[0].feed_forward.intermediate_dense.weight
    assert shared.data_ptr() == first.data_ptr()
    assert "_twin" not in dict(theirs.named_children())
    assert theirs.twins() == [twin]


def test_a_twin_that_differs_is_not_taken(pair):
    _, theirs, _ = pair
    again = s3prl.S3PRLUpstream(theirs.expert, "altered")
    hook = theirs.expert.model.encoder.layers[0].fc2.register_forward_hook(
        lambda module, args, output: 1.5 * output
    )
    try:
        assert again.twins() == []
    finally:
        hook.remove()


@pytest.mark.parametrize(
    ("change", "activation"),
    [
        ({}, "gelu"),
        ({"activation_fn": "relu"}, "relu"),
        ({"activation_fn": "gelu_accurate"}, "gelu_accurate"),
        ({"layer_type": "conformer", "attn_type": "espnet"}, None),
        ({"pos_conv_depth": 2}, None),
    ],
    ids=str,
)
def test_other_forms_have_another_twin_or_none(change, activation):
    s3prl.hub()
    from s3prl.upstream.wav2vec2 import wav2vec2_model as module

    keys = {**layout(Case("wav2vec2", BASE, False)), **change}
    found = as_transformers(module.Wav2Vec2Model(module.Wav2Vec2Config(**keys)))
    assert (None if found is None else found.config.hidden_act) == activation


PUBLISHED = {
    "hubert-post": ("hubert_base", "hubert_base_ls960.pt"),
    "hubert-pre": ("hubert_large_ll60k", "hubert_large_ll60k.pt"),
    "wav2vec2-post": ("wav2vec2_base_960", "wav2vec_small.pt"),
    "wav2vec2-pre": ("xlsr_53", "xlsr_53_56k.pt"),
    "wavlm-post": ("wavlm_base", "wavlm_base.pt"),
    "wavlm-pre": ("wavlm_large", "wavlm_large.pt"),
    "data2vec-post": ("data2vec_base_960", "audio_base_ls.pt"),
}
"""s3prl's names of published checkpoints, and the files that it downloads for them."""


def test_s3prls_names_load_like_a_local_checkpoint(pair, monkeypatch):
    """With the download in place of the net: the tests have none."""
    case, theirs, _ = pair
    (path,) = theirs.files
    name, file = PUBLISHED[str(case)]
    asked = []

    def downloaded(url, **_):
        asked.append(url.rsplit("/", 1)[-1])
        return str(path)

    hubconf = import_module(f"s3prl.upstream.{case.family}.hubconf")
    monkeypatch.setattr(hubconf, "_urls_to_filepaths", downloaded)
    named = s3prl.load(s3prl.Config(kind="s3prl", name=name))
    assert asked == [file]
    assert named.files == (path,)
    torch.testing.assert_close(named(waves())[0], theirs(waves())[0], atol=0, rtol=0)


def test_what_padding_does_to_s3prls_own_batches(pair):
    """Why neither kind pads as s3prl does: only wav2vec 2.0's Large form comes out the same.

    A GroupNorm takes padding into its statistics; HuBERT and WavLM count frames of padding as
    valid (they divide the padded batch evenly); data2vec's stacked positional convolutions reach
    from padding into the utterance.
    """
    case, theirs, mine = pair
    states, lengths = mine(waves())
    with torch.no_grad():
        batch = torch.stack(theirs.expert(waves())["hidden_states"])
    gap = max(
        (states[:, i, :n] - batch[:, i, :n]).abs().max().item() for i, n in enumerate(lengths)
    )
    if str(case) == "wav2vec2-pre":
        assert gap < 1e-4
    else:
        assert gap > 1e-3


def test_only_the_last_state_of_a_pre_norm_encoder_is_normalised(pair):
    case, _, mine = pair
    states, _ = mine(waves()[:1])
    norm = mine.model.encoder.layer_norm
    centred = (states - norm.bias) / norm.weight
    deviations = centred.mean(-1).abs().amax((1, 2))
    if case.form["layer_norm_first"]:
        assert deviations[-1] < 1e-4 < 1e-2 < deviations[:-1].min()
    else:
        assert deviations[0] < 1e-4 or case.family == "data2vec"


def test_fine_tuning_has_s3prls_gradients(pair):
    """Of the same parameters in both kinds: neither trains heads of pre-training or masks."""
    case, theirs, mine = pair
    loaded = {
        s3prl: s3prl.Config(kind="s3prl", name=f"{case.family}_local", path=str(theirs.files[0])),
        ours: ours.Config(kind="transformers", model=str(mine.files[0].parent)),
    }
    found = []
    for kind, config in loaded.items():
        upstream = kind.load(config)
        settings = FineTune(learning_rate=1e-5, freeze_convolutions=False)
        Encoder(upstream, kind.parts(upstream), settings, normalize=False)
        states, _ = upstream.encode(waves())
        generator = torch.Generator().manual_seed(4)
        (states * torch.randn(states.shape, generator=generator)).sum().backward()
        found.append({name: p.grad for name, p in upstream.named_parameters() if p.requires_grad})
    expected = renamed({name.removeprefix("expert.model."): g for name, g in found[0].items()})
    gradients = {re.sub(WRAPPERS, "", name): g for name, g in found[1].items()}
    assert set(gradients) == set(expected)
    for name, gradient in gradients.items():
        allowed = 1e-4 * max(1.0, gradient.abs().max().item())
        torch.testing.assert_close(gradient, expected[name], atol=allowed, rtol=0, msg=name)


def test_dropout_before_the_blocks_is_that_of_s3prls_training_mode(pair):
    """Where ``train()`` of the whole model would drop as well, and nothing else that acts then."""
    case, theirs, mine = pair
    loaded = {
        s3prl: s3prl.Config(kind="s3prl", name=f"{case.family}_local", path=str(theirs.files[0])),
        ours: ours.Config(kind="transformers", model=str(mine.files[0].parent)),
    }
    for kind, config in loaded.items():
        upstream = kind.load(config).eval()
        model = upstream.expert.model if kind is s3prl else upstream.model
        ahead = kind.parts(upstream).dropouts
        aside = [*kind.parts(upstream).blocks, *kind.parts(upstream).convolutions]
        if hasattr(model, "dropout_features"):  # drops what pre-training compares states with
            aside.append(model.dropout_features)
        left_out = {part for one in aside for part in one.modules()}
        reached = set()
        for part in set(model.modules()) - left_out:
            if isinstance(part, nn.Dropout) or isinstance(getattr(part, "dropout", None), float):
                part.register_forward_hook(lambda part, *_, reached=reached: reached.add(part))
        plain, _ = upstream.encode(waves()[:1])
        assert set(ahead) == reached
        for part in ahead:
            part.training = True
            if isinstance(part, nn.Dropout):
                part.p = 0.5
            else:
                part.dropout = 0.5
        dropped, _ = upstream.encode(waves()[:1])
        assert dropped.shape == plain.shape
        assert not torch.allclose(dropped[0], plain[0], atol=1e-2)
