"""The s3prl upstream: against our own upstreams, batches, mistakes."""

import sys

import pytest
import torch

from ssl_bench.errors import StudyError
from ssl_bench.upstreams import fbank, s3prl
from ssl_bench.upstreams import transformers as ours

SAMPLES = (9_000, 16_000, 4_321, 9_000)


def waves(samples=SAMPLES):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, generator=generator) * 0.01 * 3**i for i, n in enumerate(samples)]


def test_hugging_face_folder_agrees_with_ours(hubert_folder):
    theirs = s3prl.load(s3prl.Config(kind="s3prl", name="hf_hubert_custom", path=hubert_folder))
    mine = ours.load(ours.Config(kind="transformers", model=hubert_folder))
    expected, expected_lengths = mine(waves())
    states, lengths = theirs(waves())
    assert torch.equal(lengths, expected_lengths)
    torch.testing.assert_close(states, expected, atol=1e-4, rtol=0)
    assert theirs.stride == 320
    assert theirs.probe() == (4, 16)
    assert [theirs.frames(n) for n in range(800, 20_000, 777)] == [
        mine.frames(n) for n in range(800, 20_000, 777)
    ]


def test_batch_equals_one_by_one(hubert_folder):
    upstream = s3prl.load(s3prl.Config(kind="s3prl", name="hf_hubert_custom", path=hubert_folder))
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
