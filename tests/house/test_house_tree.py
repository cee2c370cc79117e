"""What may and may not lie in the tree."""

import ast
import json
import re
import subprocess
import sys

import pytest

# A home or a mount of one machine, and a package index's address or option.
MACHINE = re.compile(
    r"(?<![\w.$}/-])/(?:home|root|Users|opt|mnt|scratch|workspace|work)/[\w.-]+"
    r"|--(?:extra-)?index[-]url|--find[-]links"
    r"|https?://[^\s)>\"']*(?:pythonhosted|pypi\.org/simple|/simple/)"
)
TEXT = {".py", ".smk", ".md", ".toml", ".txt", ".yml", ".yaml", ".cff", ".json", ".csv", ".ipynb"}
NAMED = {"Makefile", "Snakefile", "run", ".gitignore"}
FORBIDDEN_IMPORTS = {
    "interfaces/SSL_Interface": {"ssl_bench", "analysis", "s3prl", "transformers", "lhotse"},
    "analysis": {"torch", "SSL_Interface", "lhotse", "s3prl", "transformers"},
    "workflow/ssl_bench/tasks": {"lhotse", "soundfile", "s3prl", "analysis"},
    "workflow/ssl_bench/corpora": {"s3prl", "analysis"},
}


@pytest.fixture(scope="module")
def files(repository):
    """Every file that git keeps or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=repository,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout: no list of its files")
    names = listed.stdout.decode().split("\0")
    return [repository / name for name in names if name and (repository / name).is_file()]


def imports(path):
    """Yield the top-level packages that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def test_no_machine_path_and_no_package_index(files):
    found = []
    for path in files:
        if path.name == "test_house_tree.py":
            continue
        if path.suffix in TEXT or path.name in NAMED:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                if match := MACHINE.search(line):
                    found.append(f"{path.name}:{number}: {match[0]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("see /home/" + "ann/data", True),
        ("pip install --index" + "-url x", True),
        ('p = "/opt/' + 'thing"', True),
        ("work/mini/corpora and results/mini", False),
        ("https://github.com/home/x and $HOME/opt/x", False),
    ],
)
def test_the_pattern_for_machine_paths(line, bad):
    assert bool(MACHINE.search(line)) is bad


def test_notebooks_are_stored_without_outputs(files):
    for path in (file for file in files if file.suffix == ".ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            ran = cell.get("outputs") or cell.get("execution_count")
            assert not ran, f"{path.name}: a cell has outputs; clear them before committing"


def test_files_are_small(files):
    large = [f"{path.name}: {path.stat().st_size}" for path in files if path.stat().st_size > 2**24]
    assert not large, f"over 16 MiB: {large}"


def test_python_files_hold_one_idea(files):
    long = {
        path.name: lines
        for path in files
        if path.suffix == ".py"
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > 500
    }
    assert not long, f"over 500 lines: {long}"


def test_no_audio_and_no_weights_but_the_shipped_models(repository, files):
    kept = repository / "models"
    strays = [
        path.name
        for path in files
        if path.suffix in {".wav", ".flac", ".mp3", ".ogg", ".pt", ".pth", ".ckpt", ".safetensors"}
        and not path.is_relative_to(kept)
    ]
    assert not strays


@pytest.mark.parametrize("room", FORBIDDEN_IMPORTS)
def test_rooms_import_only_what_the_design_allows(repository, room):
    for path in sorted((repository / room).rglob("*.py")):
        wrong = FORBIDDEN_IMPORTS[room].intersection(imports(path))
        assert not wrong, f"{path.relative_to(repository)} imports {sorted(wrong)}"


def test_s3prl_is_imported_in_its_upstream_only(repository):
    users = {
        path.relative_to(repository).as_posix()
        for folder in ("workflow", "interfaces", "analysis")
        for path in (repository / folder).rglob("*.py")
        if "s3prl" in imports(path)
    }
    assert users <= {"workflow/ssl_bench/upstreams/s3prl.py"}


def demand_no_torch(repository, script: str) -> None:
    """Run a script in a process of its own, in which nothing may import torch."""
    script = f"import sys\n{script}\nsys.exit('torch' in sys.modules and 'torch was imported')\n"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_analysis_runs_without_torch(repository):
    modules = sorted(
        f"analysis.{path.stem}"
        for path in (repository / "analysis").glob("*.py")
        if not path.stem.startswith("_")
    )
    assert modules
    demand_no_torch(
        repository, f"import importlib\nfor name in {modules}: importlib.import_module(name)"
    )


def test_what_the_workflow_and_an_inventory_import_needs_no_torch(repository):
    """Checking a study does: encoders, tasks and interfaces are asked for what they take."""
    common = (repository / "workflow" / "rules" / "common.smk").read_text(encoding="utf-8")
    lines = re.findall(r"^from (?:ssl_bench|analysis)\b.* import .*$", common, re.MULTILINE)
    assert "from ssl_bench import inventory" in lines
    kinds = "from ssl_bench import registry\nfor k in registry.kinds('corpora'): "
    demand_no_torch(repository, "\n".join([*lines, f"{kinds}registry.load('corpora', k)"]))
