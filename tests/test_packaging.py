"""What other programs read of this repository: its citation, the default's card, its container."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml

from evaluation.stagers import bundled
from tests.edf_files import write_psg
from utils.files import read_json

ROOT = Path(__file__).parents[1]
CARD = ROOT / "results" / "weights" / "default.md"

# of CFF's schema 1.2.0, what this citation uses; cffconvert --validate compares it with all of it
_TEXT = {"type": "string", "minLength": 1}
_PERSON = {
    "type": "object",
    "properties": {"name": _TEXT, "family-names": _TEXT, "given-names": _TEXT, "orcid": _TEXT},
    "anyOf": [{"required": ["name"]}, {"required": ["family-names"]}],
    "additionalProperties": False,
}
_AUTHORS = {"type": "array", "items": _PERSON, "minItems": 1, "uniqueItems": True}
_DOI = {"type": "string", "pattern": r"^10\.\d{4,9}(\.\d+)?/[A-Za-z0-9:/_;\-\.\(\)\[\]\\]+$"}
_KINDS = ["article", "book", "conference-paper", "data", "database", "generic", "software"]
_REFERENCE = {
    "type": "object",
    "properties": {
        "type": {"enum": _KINDS}, "title": _TEXT, "authors": _AUTHORS, "journal": _TEXT,
        "year": {"type": "integer"}, "volume": {"type": "integer"}, "issue": {"type": "integer"},
        "doi": _DOI,
    },
    "required": ["authors", "title", "type"],
    "additionalProperties": False,
}  # fmt: skip
CITATION = {
    "type": "object",
    "properties": {
        "cff-version": {"const": "1.2.0"}, "message": _TEXT, "title": _TEXT, "abstract": _TEXT,
        "type": {"enum": ["software", "dataset"]}, "license": {"const": "MIT"}, "version": _TEXT,
        "keywords": {"type": "array", "items": _TEXT, "minItems": 1, "uniqueItems": True},
        "authors": _AUTHORS, "references": {"type": "array", "items": _REFERENCE},
    },
    "required": ["authors", "cff-version", "message", "title"],
    "additionalProperties": False,
}  # fmt: skip


def test_the_citation_is_one():
    """Was: a reference of a type that the format has not, so that no tool took any of it."""
    jsonschema.validate(yaml.safe_load((ROOT / "CITATION.cff").read_text()), CITATION)


def test_the_card_begins_with_what_model_hubs_read():
    """As Hugging Face's ModelCard reads it: YAML between two lines of dashes, then the text."""
    _, head, text = CARD.read_text().split("---\n", 2)
    about = yaml.safe_load(head)
    assert text.lstrip().startswith("# The default")
    assert about["license"] == "other" and about["library_name"] == "sleep-staging"
    for part in bundled.parts().values():
        assert part["licence"].replace("as this project", "MIT") in about["license_name"]
    assert {"sleep-staging", "eeg"} <= {*about["tags"]}
    (entry,) = about["model-index"]
    measured = read_json(CARD.with_name("figures.json"))
    values = {}
    for result in entry["results"]:
        assert result["task"]["type"] and result["dataset"]["type"]
        named = {metric["type"]: metric["value"] for metric in result["metrics"]}
        assert named.keys() <= {*about["metrics"]}
        values[result["dataset"]["name"].split(",")[0]] = named
    assert values["20 simulated nights"]["cohen_kappa"] == measured["simulated"]["kappa"]
    # a mean over five stages is no figure of two
    assert values["parts of 12 real nights"] == {
        "cohen_kappa": measured["partial"]["kappa"], "accuracy": measured["partial"]["accuracy"]
    }  # fmt: skip
    assert f"kappa **{values['ucddb018']['cohen_kappa']:.3f}**" in text


def instructions(device: str) -> list[tuple[str, str]]:
    """What the Containerfile does for a device, in order: ``("RUN", "python3 …")``."""
    stages: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for line in (ROOT / "Containerfile").read_text().splitlines():
        word, _, rest = line.partition(" ")
        if not line.strip() or line.startswith("#"):
            continue
        if word == "FROM":
            base, _, name = rest.replace("${DEVICE}", device).partition(" AS ")
            current = stages[name or "last"] = [*stages.get(base, [("FROM", base)])]
        elif word != "ARG":
            current.append((word, rest))
    return stages["last"]


def ignored(name: str) -> bool:
    """Whether a path of the repository is left out of an image: the last pattern that fits it."""
    verdict = False
    parts = name.split("/")
    above = ["/".join(parts[: k + 1]) for k in range(len(parts))]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        alone = pattern.removeprefix("**/")
        fits = any(
            fnmatch.fnmatchcase(one, pattern) and one.count("/") == pattern.count("/")
            if alone == pattern
            else fnmatch.fnmatchcase(one.rpartition("/")[2], alone)
            for one in above
        )
        verdict = (not line.startswith("!")) if fits and not line.startswith("#") else verdict
    return verdict


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_container_builds_on_a_pinned_base_and_runs_as_nobody_special(device):
    steps = instructions(device)
    (base,) = (rest for word, rest in steps if word == "FROM")
    assert re.fullmatch(r"docker\.io/\w+/\w+:[\w.-]*\d[\w.-]+", base) and "latest" not in base
    assert ("nvidia" in base) == (device == "cuda")
    known = {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in steps} <= known
    last_user = [k for k, (word, _) in enumerate(steps) if word == "USER"]
    assert int(steps[last_user[-1]][1]) >= 1000
    assert not any(word in ("RUN", "COPY") for word, _ in steps[last_user[-1] :])
    for word, rest in steps:
        if word == "COPY":
            assert (ROOT / rest.split()[0]).exists()
    entry = json.loads(dict(steps)["ENTRYPOINT"])
    assert (ROOT / entry[1].removeprefix("/opt/sleep-staging/")).is_file()
    packages = {rest for word, rest in steps if word == "RUN" and "requirements" in rest}
    assert len(packages) == 1  # everything else is pinned in that file


def test_an_image_holds_the_weights_and_no_data():
    names = ["results/weights/spectra_0.pt", "predict.py", "datasets/cohorts/x.json", "LICENSE",
             "evaluation/templates/night_page.html", "requirements.txt"]  # fmt: skip
    assert [name for name in names if ignored(name)] == []
    names = ["data/raw/n.edf", "results/run/best.pt", ".git/HEAD", "tests/x.py", ".venv/bin/python",
             "utils/__pycache__/x.pyc"]  # fmt: skip
    assert [name for name in names if not ignored(name)] == []


GIBIBYTE = 1 << 30


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """The container's steps run in a folder that stands for its root; no image can be pulled here.

    Those of the machine's own packages and users are left out. The device is CUDA's, whose wheels
    come from the same index as ours.
    """
    if shutil.disk_usage(tempfile.gettempdir()).free < 20 * GIBIBYTE:
        pytest.skip("20 GiB of disk are needed for a clean environment")
    with tempfile.TemporaryDirectory(prefix="container-") as name:
        root = Path(name)
        root.chmod(0o755)  # whoever runs the container may look
        environment, here = dict(os.environ), root
        for word, rest in instructions("cuda"):
            rest = within(root, rest)
            if word == "WORKDIR":
                here = Path(rest)
                here.mkdir(parents=True, exist_ok=True)
            elif word == "COPY":
                copy(rest.split()[0], here)
            elif word == "RUN" and not rest.startswith(("apt-get", "useradd")):
                command = rest.replace("python3 -m venv", f"{sys.executable} -m venv")
                done = subprocess.run(
                    ["sh", "-c", command], cwd=here, env=environment, capture_output=True,
                    text=True, check=False,
                )  # fmt: skip
                assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        subprocess.run(["chmod", "-R", "a-w", root / "opt"], check=True)
        yield root
        subprocess.run(["chmod", "-R", "u+w", root / "opt"], check=True)


def within(root: Path, text: str) -> str:
    """An instruction whose folders lie below ``root``."""
    return re.sub(r"(?<![\w.])/(opt|data)\b", rf"{root}/\1", text)


def copy(source: str, target: Path) -> None:
    """Copy what an image takes: all that is tracked or new, less what it ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", source],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if not ignored(name) and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


@pytest.mark.slow
def test_the_containers_steps_give_what_stages_without_a_network_or_rights(image):
    steps = instructions("cuda")
    place = Path(within(image, [rest for word, rest in steps if word == "WORKDIR"][-1]))
    write_psg(place / "night.edf", 12, {"EEG Fpz-Cz": 100})
    home = image / "home"
    home.mkdir()
    environment = dict(os.environ)
    for word, rest in steps:
        if word == "ENV":
            pairs = dict(pair.split("=", 1) for pair in within(image, rest).split())
            environment |= {key: os.path.expandvars(value) for key, value in pairs.items()}
    environment["HOME"] = str(home)  # the container's is a folder of its own, too
    entry = json.loads(within(image, dict(steps)["ENTRYPOINT"]))
    alone = ["unshare", "--net", "--map-root-user"]
    if os.getuid() == 0:  # root may write anywhere, unless it has no capabilities
        alone = ["unshare", "--net", "setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    done = subprocess.run(
        [*alone, *entry, "--edf", "night.edf", "-o", "staged", "--export", "all"],
        cwd=place, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 epochs" in done.stdout and (place / "staged" / "night" / "night.html").is_file()
    done = subprocess.run(
        [*alone, "touch", image / "opt" / "sleep-staging" / "x"], env=environment, check=False
    )
    assert done.returncode, "the program's folder was writable after all"
