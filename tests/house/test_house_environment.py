"""The environment is described in several files; they must say the same."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def pins(repository):
    """{canonical name: version} of constraints.txt."""
    found = {}
    for line in (repository / "constraints.txt").read_text().splitlines():
        name, separator, version = line.partition("==")
        assert separator, f"not a name==version: {line!r}"
        assert canonicalize_name(name) not in found, f"pinned twice: {name}"
        found[canonicalize_name(name)] = Version(version)
    return found


def requirements(project):
    extras = [r for group in project["optional-dependencies"].values() for r in group]
    return [Requirement(text) for text in [*project["dependencies"], *extras]]


def test_pins_are_plain_public_versions(pins):
    assert len(pins) > 100
    local = [name for name, version in pins.items() if version.local]
    assert not local, f"local versions cannot be installed from an index: {local}"


def test_our_own_distribution_is_not_pinned(project, pins):
    assert canonicalize_name(project["name"]) not in pins


def test_distribution_name_is_not_the_published_packages(project):
    assert canonicalize_name(project["name"]) != "ssl-interface"


def test_every_dependency_is_pinned_within_its_bounds(project, pins):
    for requirement in requirements(project):
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{requirement.name} is missing from constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"{requirement} but pinned {pins[name]}"


def test_torch_and_torchaudio_are_a_pair(pins):
    assert pins["torch"].release[:2] == pins["torchaudio"].release[:2]


def test_conda_environment_installs_the_project_at_its_pins(repository, project):
    environment = yaml.safe_load((repository / "environment.yml").read_text())
    assert environment["channels"][0] == "conda-forge"
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert "--constraint constraints.txt" in pip
    installed = [line for line in pip if not line.startswith("--constraint")]
    assert len(installed) == 1
    editable = re.fullmatch(r"--editable \.\[(\w+)\]", installed[0])
    assert editable, f"expected the project itself, found {installed[0]!r}"
    assert editable[1] in project["optional-dependencies"]


def test_conda_python_satisfies_pyproject(repository, project):
    environment = yaml.safe_load((repository / "environment.yml").read_text())
    (python,) = [d for d in environment["dependencies"] if str(d).startswith("python=")]
    minimum = project["requires-python"].removeprefix(">=")
    assert Version(python.removeprefix("python=")) >= Version(minimum)
    assert (
        f"Programming Language :: Python :: {python.removeprefix('python=')}"
        in (project["classifiers"])
    )


def test_one_version_everywhere(repository, project):
    import ssl_bench

    citation = yaml.safe_load((repository / "CITATION.cff").read_text())
    assert citation["version"] == project["version"] == ssl_bench.__version__
    assert citation["license"] == project["license"]
    assert "Apache License" in (repository / "LICENSE").read_text()


def test_citation_names_the_paper(repository):
    citation = yaml.safe_load((repository / "CITATION.cff").read_text())
    titles = [reference["title"] for reference in citation["references"]]
    assert "Interface Design for Self-Supervised Speech Models" in titles
