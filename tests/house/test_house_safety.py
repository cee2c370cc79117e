"""What the code may not do: unpickle, unpack or run what comes from outside."""

import ast
import re
from collections.abc import Iterator

import pytest
import yaml

from ssl_bench.errors import StudyError
from ssl_bench.study import parse

ROOMS = ("workflow", "analysis", "interfaces", "benchmarks")
LOADS = {"load", "loads", "Unpickler", "read_pickle"}
UNPICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "pd", "pandas"}
EXPRESSION = re.compile(r"(?<!\{)\{([^{}]+)\}(?!\})")


def unsafe(source: str) -> Iterator[str]:
    """Yield the calls that run or write what a file from outside says."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        module, _, name = called.rpartition(".")
        given = {key.arg: ast.unparse(key.value) for key in node.keywords}
        bad = (
            (name in LOADS and module in UNPICKLES)
            or (called == "torch.load" and given.get("weights_only") != "True")
            or given.get("allow_pickle", "False") != "False"
            or (module == "yaml" and name in {"load", "load_all", "unsafe_load", "full_load"})
            or (name in {"extractall", "extract"} and given.get("filter") != "'data'")
            or name in {"unpack_archive", "ZipFile"}
            or given.get("shell", "False") != "False"
            or called in {"os.system", "os.popen", "eval", "exec"}
            or given.get("trust_remote_code", "False") != "False"
        )
        if bad:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def test_no_code_loads_what_could_run(repository) -> None:
    found = [
        f"{path.relative_to(repository)}: {call}"
        for room in ROOMS
        for path in (repository / room).rglob("*.py")
        for call in unsafe(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ("torch.load(path)", True),
        ("torch.load(path, weights_only=not trusted)", True),
        ("torch.load(path, weights_only=True)", False),
        ("np.load(path)", False),
        ("np.load(path, allow_pickle=True)", True),
        ("pickle.load(file)", True),
        ("pd.read_pickle(path)", True),
        ("joblib.load(path)", True),
        ("yaml.load(text, Loader=yaml.Loader)", True),
        ("yaml.safe_load(text)", False),
        ("tar.extractall(folder)", True),
        ("tar.extractall(folder, filter='data')", False),
        ("zipfile.ZipFile(path)", True),
        ("subprocess.run(line, shell=True)", True),
        ("subprocess.run([program, path])", False),
        ("os.system(line)", True),
        ("AutoModel.from_pretrained(name, trust_remote_code=True)", True),
    ],
)
def test_what_counts_as_unsafe(line: str, bad: bool) -> None:
    assert bool(list(unsafe(line))) is bad


def shells(text: str) -> list[str]:
    """List the shell commands of a file of rules."""
    blocks = re.findall(r'^    shell:\n((?:        "?.*\n?)+)', text, re.MULTILINE)
    return ["".join(ast.literal_eval(f"({block})")) for block in blocks]


def unquoted(command: str) -> list[str]:
    """List what a command takes in without quotes, and is neither a number nor a checked name."""
    return [
        part
        for part in EXPRESSION.findall(command)
        if not part.endswith(":q") and part != "threads" and not part.startswith("wildcards.")
    ]


def test_no_rule_builds_a_command_from_a_studys_values(repository) -> None:
    """Paths are quoted; names are quoted by their alphabet (``study.NAME``)."""
    for path in sorted((repository / "workflow" / "rules").glob("*.smk")):
        text = path.read_text(encoding="utf-8")
        commands = shells(text)
        assert len(commands) == len(re.findall(r"^    shell:", text, re.MULTILINE)), path.name
        for command in commands:
            assert not unquoted(command), f"{path.name}: {unquoted(command)} in {command}"
        assert not re.search(r"\bshell\(|\bos\.system|subprocess", text), path.name


def test_what_counts_as_unquoted() -> None:
    rule = 'rule a:\n    shell:\n        "cp {input} {output:q}"\n        " > {wildcards.task}"\n'
    assert shells(rule) == ["cp {input} {output:q} > {wildcards.task}"]
    assert unquoted(shells(rule)[0]) == ["input"]


BAD_NAMES = ["a;b", "a b", "$(a)", "a\n", "'a'", "../a", "-a", "ñ", ""]


@pytest.mark.parametrize(
    ("axis", "name"),
    [("tasks", name) for name in BAD_NAMES]
    + [(axis, "a\n") for axis in ("corpora", "upstreams", "interfaces")],
)
def test_a_name_that_a_shell_could_read_is_refused(repository, axis: str, name: str) -> None:
    raw = yaml.safe_load((repository / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    first = next(iter(raw[axis].values()))
    raw[axis] = {**raw[axis], name: {"kind": "weighted_sum"} if axis == "interfaces" else first}
    with pytest.raises(StudyError, match="not a usable name"):
        parse(raw)
