"""The other side of the throughput benchmark is s3prl's own loop, and it trains."""

import importlib
import importlib.util
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from torch import nn

KINDS = ["hf_hubert_custom", "hubert_local"]


@pytest.fixture(scope="module")
def loop():
    torch.set_num_threads(1)
    return importlib.import_module("s3prl_loop")


@pytest.fixture(scope="module")
def setup(loop):
    return importlib.import_module("s3prl_runner")


@pytest.fixture(scope="module")
def batch(loop):
    speechlike = importlib.import_module("speechlike")
    return speechlike.utterances(np.array([1.0, 2.0, 1.5]), np.random.default_rng(0))


@pytest.fixture(scope="module")
def checkpoints(loop, tmp_path_factory):
    """A tiny random HuBERT for both of s3prl's entries."""
    shapes = importlib.import_module("random_hubert")
    return {
        kind: shapes.write(kind, shapes.TINY, tmp_path_factory.mktemp("hubert")) for kind in KINDS
    }


@pytest.fixture
def make(loop, setup, checkpoints, batch, tmp_path):
    """A runner that will be served ``batch``, and the loss of each step once it has run."""

    def runner(interface, kind=KINDS[0], steps=1, **options):
        made = setup.make(interface, kind, checkpoints[kind], batch.waveforms, tmp_path, **options)
        expert = made.downstream.model
        expert.get_dataloader = loop.Clock([batch], steps, 0, "cpu")
        expert.log_records = lambda *_, **__: None
        return made

    return runner


def path(thing):
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


@pytest.mark.parametrize("kind", KINDS)
def test_what_runs_is_s3prls(make, kind):
    runner = make("weighted_sum", kind)
    assert path(runner) == "s3prl.downstream.runner.Runner"
    entry = {"hf_hubert_custom": "hf_hubert", "hubert_local": "hubert"}[kind]
    assert path(runner.upstream.model) == f"s3prl.upstream.{entry}.expert.UpstreamExpert"
    assert path(runner.featurizer.model) == "s3prl.upstream.interfaces.Featurizer"
    assert runner.featurizer.model.layer_num == 5
    head = runner.downstream.model
    assert path(head) == "s3prl.downstream.ctc.expert.DownstreamExpert"
    assert path(head.model) == "s3prl.downstream.model.FrameLevel"
    assert (head.projector.in_features, head.projector.out_features) == (32, 256)
    assert head.model.linear.out_features == 74
    assert isinstance(head.objective, nn.CTCLoss)
    assert (head.objective.blank, head.objective.zero_infinity) == (0, True)
    runner.config["runner"]["total_steps"] = 1
    optimizer = runner._get_optimizer([runner.featurizer.model, head])
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.defaults["lr"] == 1e-2
    for module in (runner.upstream.model, runner.featurizer.model, head):
        assert {p.dtype for p in module.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", KINDS)
def test_layer_weights_and_head_train_and_the_upstream_does_not(setup, make, kind):
    runner = make("weighted_sum", kind)
    featurizer, upstream = runner.featurizer.model, runner.upstream.model
    gradients = []
    featurizer.weights.register_hook(gradients.append)
    before = {name: p.clone() for name, p in upstream.named_parameters()}
    projector = runner.downstream.model.projector.weight.clone()
    seen = []
    upstream.register_forward_hook(
        lambda module, args, out: seen.append((torch.is_grad_enabled(), module.training))
    )
    setup.run_for(runner, 1)
    assert len(gradients) == 1
    assert gradients[0].abs().min() > 0
    # Adam's first step is the learning rate.
    torch.testing.assert_close(featurizer.weights.abs(), torch.full((5,), 0.01), rtol=0.01, atol=0)
    assert not torch.equal(projector, runner.downstream.model.projector.weight)
    assert seen == [(False, False)]
    for name, parameter in upstream.named_parameters():
        assert parameter.grad is None
        assert torch.equal(parameter, before[name])


def test_table_1_is_the_papers(setup, repository):
    study = yaml.safe_load((repository / "config" / "paper.yaml").read_text())
    names = study["tasks"]["mono_10min_eng1"]["interfaces"]["hubert_base"]
    assert list(setup.TABLE_1) == names
    for name in names:
        options = dict(study["interfaces"][name])
        assert setup.TABLE_1[name] == (options.pop("kind", name), options)


@pytest.mark.parametrize(
    "name", ["grouped_2", "grouped_3", "grouped_4", "concat", "pca_concat", "hconv", "cls_pooling"]
)
def test_another_interface_takes_the_place_of_the_sum(setup, make, batch, name):
    runner = make(name)
    featurizer, upstream = runner.featurizer.model, runner.upstream.model
    assert path(featurizer) == "s3prl.upstream.interfaces.Featurizer"
    interface = featurizer.interface
    featurizer.eval()
    with torch.no_grad():
        features = upstream(batch.waveforms)
        found = featurizer(batch.waveforms, features)
        expected = interface(torch.stack(list(features["hidden_states"])))
    for wave, mine, theirs in zip(batch.waveforms, expected, found, strict=True):
        frames = min(round(len(wave) / 320), len(mine))
        torch.testing.assert_close(theirs, mine[:frames], rtol=1e-4, atol=1e-5)
    assert runner.downstream.model.projector.in_features == interface.output_dim
    before = [p.clone() for p in interface.parameters()]
    assert len(list(featurizer.parameters())) == len(before)
    setup.run_for(runner, 1)
    moved = [not torch.equal(a, b) for a, b in zip(before, interface.parameters(), strict=True)]
    assert all(moved)
    assert bool(moved) == (name != "pca_concat")


def test_hconv_of_the_published_package(setup, make, tmp_path):
    """A folder with a package of that name and API; the real one is fetched by hand."""
    package = tmp_path / "site" / "SSL_Interface"
    for part in ("interfaces", "configs"):
        (package / part).mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "configs" / "__init__.py").write_text(
        "from types import SimpleNamespace as HierarchicalConvInterfaceConfig\n"
    )
    (package / "interfaces" / "__init__.py").write_text(
        "from torch import nn\n"
        "class HierarchicalConvInterface(nn.Module):\n"
        "    def __init__(self, config):\n"
        "        super().__init__()\n"
        "        self.config, self.output_dim = config, config.output_dim\n"
        "        self.linear = nn.Linear(config.upstream_feat_dim, config.output_dim)\n"
        "    def forward(self, states):\n"
        "        return self.linear(states[0])\n"
    )
    runner = make("hconv", published=tmp_path / "site")
    theirs = runner.featurizer.model.interface
    assert vars(theirs.config) == {
        "upstream_layer_num": 5,
        "upstream_feat_dim": 32,
        "normalize": False,
        "output_dim": 32,
    }
    before = theirs.linear.weight.clone()
    setup.run_for(runner, 1)
    assert not torch.equal(before, theirs.linear.weight)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("autocast", [None, "bf16"])
def test_precision(loop, setup, make, kind, autocast):
    runner = make("weighted_sum", kind)
    seen = []
    upstream = runner.upstream.model.model
    for module in (upstream.encoder.layers[0], runner.downstream.model.projector):
        inner = next(m for m in module.modules() if isinstance(m, nn.Linear))
        inner = getattr(module, "fc1", inner)
        inner.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    if autocast:
        for entry in runner.all_entries:
            loop.under_autocast(entry.model, "cpu", loop.PRECISIONS[autocast])
    setup.run_for(runner, 1)
    assert set(seen) == {torch.bfloat16 if autocast else torch.float32}
    assert len(seen) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("autocast", [None, "bf16"])
def test_the_loss_falls(loop, checkpoints, batch, monkeypatch, kind, autocast):
    seen, run_for = set(), loop.run_for

    def watched(runner, steps):
        runner.downstream.model.projector.register_forward_hook(
            lambda module, args, out: seen.add((out.dtype, torch.get_float32_matmul_precision()))
        )
        run_for(runner, steps)

    monkeypatch.setattr(loop, "run_for", watched)
    torch.set_float32_matmul_precision("high")
    try:
        timing = loop.seconds_per_step(
            "weighted_sum",
            batch,
            checkpoints[kind],
            upstream=kind,
            device="cpu",
            steps=7,
            warm_up=1,
            autocast=autocast,
        )
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == {(torch.bfloat16 if autocast else torch.float32, "highest")}
    assert len(timing.losses) == 8
    assert all(map(math.isfinite, timing.losses))
    assert timing.losses[-1] < 0.9 * timing.losses[0]
    assert timing.seconds > 0
    assert timing.peak_mib is None
    assert timing.audio_seconds == 4.5
    assert timing.rate == 4.5 / timing.seconds


def test_a_loss_that_is_not_finite_is_no_timing(loop, checkpoints, batch):
    speechlike = importlib.import_module("speechlike")
    broken = [wave * float("nan") for wave in batch.waveforms]
    with pytest.raises(FloatingPointError, match=r"^concat: a loss or a gradient is not finite"):
        loop.seconds_per_step(
            "concat",
            speechlike.Batch(broken, batch.targets),
            checkpoints[KINDS[0]],
            device="cpu",
            steps=1,
            warm_up=0,
        )


def test_the_clock_takes_each_batchs_median(loop, batch):
    speechlike = importlib.import_module("speechlike")
    short = speechlike.Batch(batch.waveforms[:1], batch.targets[:1])
    clock = loop.Clock([batch, short], steps=6, warm_up=2, device="cpu")
    served = [waves for waves, _, _ in clock("train")]
    assert [len(waves) for waves in served] == [3, 1, 3, 1, 3, 1, 3, 1, 3]
    assert len(clock.times) == 9
    clock.times = list(np.cumsum([0, 99, 99, 1, 10, 2, 30, 9, 20]))
    timing = clock.timing("x", [1.0])
    assert timing.seconds == (2 + 20) / 2
    assert timing.audio_seconds == (4.5 + 2) / 2
    with pytest.raises(MemoryError, match="ran out of memory"):
        clock("train")


def test_the_stand_ins_are_gone(setup):
    setup.runner_module()
    hub = importlib.import_module("huggingface_hub")
    before = hasattr(hub, "HfFolder"), set(sys.modules)
    with setup.stand_ins():
        assert importlib.util.find_spec("editdistance")
        assert hasattr(hub, "HfFolder")
    assert (hasattr(hub, "HfFolder"), set(sys.modules)) == before


def test_wrong_names_and_counts(loop, make, checkpoints, batch):
    with pytest.raises(SystemExit, match="no 'mean', expected some of weighted_sum, grouped_2"):
        make("mean")
    with pytest.raises(SystemExit, match=r"^--steps: found 1, expected at least 2, one a batch$"):
        loop.seconds_per_step("concat", [batch] * 2, checkpoints[KINDS[0]], device="cpu", steps=1)


def test_shapes_are_huberts(loop):
    """Parameters of the published encoders: 94.4 and 315.4 million."""
    from transformers import HubertConfig, HubertModel

    shapes = importlib.import_module("random_hubert").SHAPES
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in HubertModel(HubertConfig(**shape)).parameters())
            for name, shape in shapes.items()
        }
    assert sizes == {"base": 94_371_712, "large": 315_438_720}


@pytest.mark.slow
def test_command_line(repository, tmp_path):
    out = tmp_path / "out.json"
    script = str(repository / "benchmarks" / "s3prl_loop.py")
    options = ["--shape", "tiny", "--device", "cpu", "--seconds", "3", "--steps", "1"]
    done = subprocess.run(
        [sys.executable, script, *options, "--warm-up", "0", "--json", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = json.loads(out.read_text())
    names = [row["interface"] for row in written["rows"]]
    assert names[:2] == ["encoder alone", "weighted_sum"]
    assert len(names) == 9
    for row in written["rows"]:
        assert row["rate"] == row["audio_seconds"] / row["seconds"]
        assert f"{row['interface']:16}{row['seconds'] * 1e3:>10.1f}" in done.stdout
    assert written["facts"]["precision"] == "fp32"
    seconds = sum(row["seconds"] for row in written["rows"][1:])
    together = 8 * written["rows"][0]["audio_seconds"] / seconds
    assert f"8 runs, one after another: {together:.0f} audio s × runs / s" in done.stdout
