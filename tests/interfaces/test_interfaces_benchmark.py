"""The benchmark runs over the whole registry, and its other sides are what they claim to be."""

import importlib.util
import json
import subprocess
import sys

import pytest
import torch

import SSL_Interface


@pytest.mark.slow
def test_every_interface_gets_a_row(repository, tmp_path):
    out = tmp_path / "table.json"
    script = str(repository / "benchmarks" / "interfaces.py")
    options = ["--device", "cpu", "--threads", "1", "--shape", "3x2x5x16", "--repeats", "1"]
    options += ["--normalize", "both"]
    done = subprocess.run(
        [sys.executable, script, *options, "--no-compile", "--json", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(out.read_text())
    pairs = [(name, normalize) for name in SSL_Interface.names() for normalize in (False, True)]
    assert [(row["name"], row["normalize"]) for row in facts["rows"]] == pairs
    assert facts["copy_bytes_per_second"] > 0
    assert "published: no --published folder (see --help)" in facts["left_out"]
    assert not [note for note in facts["left_out"] if note.startswith("s3prl")]
    assert [row["name"] for row in facts["rows"] if "s3prl" in row["ms"]] == ["weighted_sum"] * 2
    for row in facts["rows"]:
        assert not row["failed"]
        assert row["ms"]["ours"] > 0
        assert row["ms"]["plain"] > 0
        assert row["floor_ms"] > 0
        label = f"{row['name']}, normalised" if row["normalize"] else row["name"]
        assert f"| {label} | {row['ms']['ours']:.3f} |" in done.stdout
        assert f" | {row['of_copy']:.0%} | " in done.stdout
    hconv = next(row for row in facts["rows"] if row["name"] == "hconv")
    assert hconv["mib"]["ours"] > 0


def test_a_package_of_our_name_loads_beside_ours(repository, tmp_path):
    """The published package stands in a folder of its own and imports itself by our name."""
    spec = importlib.util.spec_from_file_location("others", repository / "benchmarks" / "others.py")
    others = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(others)
    package = tmp_path / "SSL_Interface"
    for part in ("interfaces", "configs"):
        (package / part).mkdir(parents=True)
        (package / part / "__init__.py").write_text(f"from SSL_Interface import at\n{part} = at\n")
    (package / "__init__.py").write_text("at = 'theirs'\n")
    before = {name: m for name, m in sys.modules.items() if name.startswith("SSL_Interface")}
    theirs = others.load_published(tmp_path)
    assert (theirs.interfaces.interfaces, theirs.configs.configs) == ("theirs", "theirs")
    after = {name: m for name, m in sys.modules.items() if name.startswith("SSL_Interface")}
    assert after == before
    assert SSL_Interface.create("mean", 2, 3)(torch.ones(2, 1, 1, 3)).shape == (1, 1, 3)
    assert others.load_published(None) is None
    with pytest.raises(SystemExit, match="no SSL_Interface in"):
        others.load_published(tmp_path / "nothing")


def test_s3prl_has_its_column(repository):
    spec = importlib.util.spec_from_file_location("others", repository / "benchmarks" / "others.py")
    others = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(others)
    featurizer, reason = others.load_featurizer()
    assert featurizer is not None, reason
    assert (featurizer.__module__, featurizer.__name__) == ("s3prl.nn.upstream", "Featurizer")
