"""The profiles for clusters name rules that there are, and differ only in how they ask for GPUs."""

import re

import pytest
import yaml

PROFILES = ("slurm", "slurm-gres")


@pytest.fixture
def profiles(repository) -> dict[str, dict]:
    files = {name: repository / "profiles" / name / "config.yaml" for name in PROFILES}
    return {name: yaml.safe_load(file.read_text()) for name, file in files.items()}


def test_their_rules_exist(profiles, repository) -> None:
    text = "".join(file.read_text() for file in (repository / "workflow" / "rules").glob("*.smk"))
    rules = set(re.findall(r"^rule (\w+):", text, re.MULTILINE))
    with_gpu = set(re.findall(r"^rule (\w+):(?:(?!^rule ).)*?gpu=(?:GPU|1),", text, re.M | re.S))
    for profile in profiles.values():
        named = {*profile["set-resources"], *profile["set-threads"], *profile["groups"]}
        assert named <= rules
        assert set(profile["set-resources"]) == with_gpu
        assert set(profile["group-components"]) <= set(profile["groups"].values())


def test_they_differ_in_gpus_alone(profiles) -> None:
    for profile in profiles.values():
        for resources in profile["set-resources"].values():
            for key in ("gpu", "gres", "cells"):
                resources.pop(key, None)
        del profile["resources"], profile["set-resource-scopes"]
    assert profiles["slurm"] == profiles["slurm-gres"]
