"""Checkpoints: those that do not fit, cannot be read or would run code; hashes of their files."""

import hashlib
import json
import os
import re
from argparse import Namespace
from logging import Handler

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from ssl_bench import upstream as stage
from ssl_bench.errors import StudyError
from ssl_bench.study import Study
from ssl_bench.upstreams import s3prl
from ssl_bench.upstreams import transformers as ours

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 5,
    "num_conv_pos_embedding_groups": 2,
}
WAVLM = {
    "conv_feature_layers": "[(8,10,5)] + [(8,3,2)] * 4 + [(8,2,2)] * 2",
    "encoder_layers": 2,
    "encoder_embed_dim": 16,
    "encoder_ffn_embed_dim": 32,
    "encoder_attention_heads": 2,
    "conv_pos": 6,
    "conv_pos_groups": 2,
}


def load(folder, **keys):
    return ours.load(ours.Config(kind="transformers", model=str(folder), **keys))


@pytest.fixture
def folder(tmp_path):
    """A random wav2vec 2.0 with the heads of pre-training, which are no mistake."""
    config = transformers.Wav2Vec2Config(**SIZES, codevector_dim=8, proj_codevector_dim=8)
    transformers.Wav2Vec2ForPreTraining(config).save_pretrained(tmp_path)
    return tmp_path


def rewrite(folder, change):
    """Change the weights of a folder in place."""
    weights = load_file(folder / "model.safetensors")
    save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})


def test_heads_of_another_task_are_ignored(folder):
    assert load(folder).probe() == (3, 16)


def test_missing_keys_are_counted_and_named(folder):
    rewrite(folder, lambda w: {k: v for k, v in w.items() if "layers.1.attention" not in k})
    with pytest.raises(
        StudyError, match=r"8 missing \('encoder.layers.1.attention.k_proj.bias', "
    ) as e:
        load(folder)
    assert "\n" not in str(e.value)


def test_transformers_says_nothing_beside_that_line(folder):
    from transformers.utils import logging

    said: list[str] = []

    class Kept(Handler):
        def emit(self, record) -> None:
            said.append(record.getMessage())

    kept = Kept()
    logging.add_handler(kept)
    before = logging.get_verbosity()
    rewrite(folder, lambda w: {k: v for k, v in w.items() if "layers.1.attention" not in k})
    try:
        with pytest.raises(StudyError, match="8 missing"):
            load(folder)
    finally:
        logging.remove_handler(kept)
    assert not said
    assert logging.get_verbosity() == before


def test_extra_layers_are_an_error(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(StudyError, match=r"16 unexpected \('wav2vec2.encoder.layers.1.\S+, .*…\)$"):
        load(folder)


def test_other_shapes_are_an_error(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}))
    with pytest.raises(StudyError, match=r"6 of another shape \('encoder.layers.0.feed_forward"):
        load(folder)


def test_weights_that_are_none(folder):
    (folder / "model.safetensors").write_bytes(b"not a tensor in sight")
    with pytest.raises(StudyError, match="no readable weights"):
        load(folder)


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mknod, (self.path,)


def test_a_pickle_of_transformers_runs_no_code(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"x": Bomb(folder / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(StudyError, match="no readable weights"):
        load(folder)
    assert not (folder / "ran").exists()


# ---- s3prl


@pytest.fixture
def wavlm(tmp_path):
    """Write a checkpoint of s3prl's WavLM, changed, and load it."""
    s3prl.hub()
    from s3prl.upstream.wavlm.WavLM import WavLM, WavLMConfig

    weights = WavLM(WavLMConfig(WAVLM)).state_dict()
    path = tmp_path / "wavlm.pt"

    def run(change=lambda checkpoint: None, **keys):
        checkpoint = {"cfg": dict(WAVLM), "model": dict(weights)}
        change(checkpoint)
        torch.save(checkpoint, path)
        return s3prl.load(s3prl.Config(kind="s3prl", name="wavlm_local", path=str(path), **keys))

    return run


def test_s3prl_loads_a_checkpoint_and_names_its_file(wavlm, tmp_path):
    upstream = wavlm()
    assert upstream.probe() == (3, 16)
    assert upstream.files == (tmp_path / "wavlm.pt",)


def test_s3prl_missing_and_extra_keys(wavlm):
    def change(checkpoint):
        checkpoint["model"]["encoder.layers.7.fc1.bias"] = torch.zeros(2)
        del checkpoint["model"]["layer_norm.weight"], checkpoint["model"]["layer_norm.bias"]
        checkpoint["model"]["mask_emb"] = torch.zeros(5)

    expected = (
        "the weights of s3prl's 'wavlm_local' (",
        "2 missing ('layer_norm.bias', 'layer_norm.weight')",
        "1 unexpected ('encoder.layers.7.fc1.bias')",
        "1 of another shape ('mask_emb')",
    )
    with pytest.raises(StudyError) as error:
        wavlm(change)
    assert "\n" not in str(error.value)
    for part in expected:
        assert part in str(error.value)


def test_s3prl_refuses_what_it_would_have_to_unpickle(wavlm, tmp_path):
    def change(checkpoint):
        checkpoint["note"] = Bomb(tmp_path / "ran")

    with pytest.raises(StudyError, match=r"more than weights \(posix.mknod\).*trust_checkpoint"):
        wavlm(change)
    assert not (tmp_path / "ran").exists()
    assert wavlm(change, trust_checkpoint=True).probe() == (3, 16)
    assert (tmp_path / "ran").exists()


def test_s3prls_own_wish_to_unpickle_is_overruled(tmp_path):
    """s3prl's TERA asks for ``weights_only=False``."""
    path = tmp_path / "tera.ckpt"
    torch.save({"Config": Bomb(tmp_path / "ran")}, path)
    with pytest.raises(StudyError, match=r"more than weights \(posix.mknod\)"):
        s3prl.load(s3prl.Config(kind="s3prl", name="tera_local", path=str(path)))
    assert not (tmp_path / "ran").exists()


def test_s3prl_refuses_settings_that_it_would_run(wavlm, tmp_path):
    def change(checkpoint):
        code = f"__import__('os').mknod({str(tmp_path / 'ran')!r}) or [(8,10,5)]"
        checkpoint["cfg"]["conv_feature_layers"] = code

    with pytest.raises(StudyError, match=r"has conv_feature_layers: .* run as code"):
        wavlm(change)
    assert not (tmp_path / "ran").exists()


def test_argument_lists_in_a_checkpoint_are_harmless(wavlm):
    def change(checkpoint):
        checkpoint["args"] = Namespace(lr=1.0, layers=[1, 2])

    assert wavlm(change).probe() == (3, 16)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 but no archive"])
def test_s3prl_checkpoint_that_is_none(content, tmp_path):
    path = tmp_path / "broken.pt"
    path.write_bytes(content)
    with pytest.raises(StudyError, match=re.escape(f"s3prl's 'wavlm_local' ({path})")) as error:
        s3prl.load(s3prl.Config(kind="s3prl", name="wavlm_local", path=str(path)))
    assert "\n" not in str(error.value)


def test_s3prl_checkpoint_of_another_family(wavlm, tmp_path):
    wavlm()
    config = s3prl.Config(kind="s3prl", name="hubert_local", path=str(tmp_path / "wavlm.pt"))
    with pytest.raises(StudyError, match="required key: task_cfg is missing"):
        s3prl.load(config)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(2), {"model": {}}])
def test_s3prl_checkpoint_of_another_form(content, tmp_path):
    torch.save(content, tmp_path / "odd.pt")
    config = s3prl.Config(kind="s3prl", name="wavlm_local", path=str(tmp_path / "odd.pt"))
    with pytest.raises(StudyError, match=r"odd.pt\) could not be read \(\w+Error: "):
        s3prl.load(config)


def test_a_folder_is_no_s3prl_checkpoint(tmp_path):
    config = s3prl.Config(kind="s3prl", name="wavlm_local", path=str(tmp_path))
    with pytest.raises(StudyError, match=r"could not be read \(AssertionError"):
        s3prl.load(config)


def test_no_way_to_the_checkpoint(monkeypatch):
    s3prl.hub()
    from s3prl.upstream.hubert import hubconf

    def unreachable(url, refresh):
        raise OSError("Name or service not known")

    monkeypatch.setattr(hubconf, "_urls_to_filepaths", unreachable)
    with pytest.raises(
        StudyError, match=r"'hubert_base' could not be downloaded or read \(OSError"
    ):
        s3prl.load(s3prl.Config(kind="s3prl", name="hubert_base"))


def test_torch_load_is_itself_again(wavlm):
    before = torch.load
    wavlm()
    with pytest.raises(StudyError):
        wavlm(lambda checkpoint: checkpoint["model"].clear())
    assert torch.load is before


# ---- what the stage records


def test_the_stage_records_files_and_sizes(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = {"kind": "transformers", "model": str(folder)}
    study = Study.model_validate(
        {
            "name": "x",
            "seeds": 1,
            "corpora": {"c": {"kind": "synthetic", "recipe": "keywords"}},
            "upstreams": {"u": keys, "random": {**keys, "untrained": True}},
            "tasks": {"t": {"kind": "ks", "corpus": "c"}},
            "interfaces": ["last"],
            "sweep": {"learning_rates": [0.1]},
        }
    )
    stage.describe(study, "u")
    about = json.loads(study.upstream_file("u").read_text())
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert about["files"] == {"model.safetensors": digest}
    assert (about["layers"], about["dim"], about["stride"]) == (3, 16, 320)
    encoder = load(folder)
    assert about["parameters"] == sum(p.numel() for p in encoder.model.parameters())
    stage.describe(study, "random")
    random = json.loads(study.upstream_file("random").read_text())
    assert random["files"] == {}
    assert random["weights_sha256"] != about["weights_sha256"]


def test_a_study_holds_files_to_their_sums(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    keys = {"kind": "transformers", "model": str(folder)}
    right, wrong = {"model.safetensors": digest}, {"model.safetensors": "0" * 64}

    def study(sums, **more):
        return Study.model_validate(
            {
                "name": "x",
                "seeds": 1,
                "corpora": {"c": {"kind": "synthetic", "recipe": "keywords"}},
                "upstreams": {"u": {**keys, **more, **({"sha256": sums} if sums else {})}},
                "tasks": {"t": {"kind": "ks", "corpus": "c"}},
                "interfaces": ["last"],
                "sweep": {"learning_rates": [0.1]},
            }
        )

    stage.describe(study(right), "u")
    plain = study(None)
    (cell,) = plain.cells()
    assert study(right).fingerprint(cell) == plain.fingerprint(cell)  # what is held changes nothing
    for sums, line in (
        (wrong, rf"upstreams\.u\.sha256: model\.safetensors: expected 0{{64}}, found {digest}"),
        ({**right, "b": digest}, rf"sha256: b: expected {digest}, found no such file read"),
    ):
        with pytest.raises(StudyError, match=line):
            stage.describe(study(sums), "u")
    with pytest.raises(StudyError, match="found no such file read"):
        stage.describe(study(right, untrained=True), "u")
    with pytest.raises(StudyError, match=r"upstreams\.u: sha256"):
        study({"model.safetensors": "abc"}).upstream_config("u")


def test_files_of_sharded_weights(tmp_path):
    model = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**SIZES))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    assert list(load(tmp_path).files) == shards


# ---- what is watched for changes


def test_files_that_a_study_watches(folder, tmp_path):
    (folder / "notes.json").write_text("{}")
    weights, sizes = folder / "model.safetensors", folder / "config.json"
    keys = {"kind": "transformers", "model": str(folder)}
    assert ours.Config(**keys).inputs() == [sizes, weights]
    assert ours.Config(**keys, untrained=True).inputs() == [sizes]
    assert ours.Config(kind="transformers", model="facebook/hubert-base-ls960").inputs() == []
    assert s3prl.Config(kind="s3prl", name="hubert_base").inputs() == []
    local = tmp_path / "a {b}.pt"
    local.write_bytes(b"")
    entries = {
        "folder": keys,
        "local": {"kind": "s3prl", "name": "wavlm_local", "path": str(weights)},
        "none": {"kind": "s3prl", "name": "wavlm_local", "path": str(tmp_path / "none.pt")},
        "braces": {"kind": "s3prl", "name": "wavlm_local", "path": str(local)},
    }
    study = Study.model_construct(upstreams=entries)
    assert {name: study.upstream_inputs(name) for name in entries} == {
        "folder": [str(sizes), str(weights)],
        "local": [str(weights)],
        "none": [],
        "braces": [],
    }
