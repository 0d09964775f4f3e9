"""The stagers that come with this project: the default and its parts, declared beside the weights.

``results/weights/default.json`` lists the parts: checkpoints that lie beside it and their SHA-256,
or a stager of an installed package with its settings; what each was trained on, and whether it
compares epochs with the rest of their night.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from datasets.readers import npz_file
from evaluation.stagers import yasa_stager
from evaluation.stagers.mean_stager import MeanStager, Part
from evaluation.stagers.network_stager import Member, NetworkStager, Prepare, PreparedOnce
from evaluation.stagers.package import Listed
from evaluation.stagers.stager import Stager
from interpret.prototypes import BUNDLED, read_from
from utils.checkpoint import load_checkpoint
from utils.errors import UserError
from utils.files import read_json, sha256

DEFAULT = "default"
_ROOT = Path(__file__).parents[2]
BUNDLE = _ROOT / "results" / "weights" / "default.json"
# stagers of packages that may be parts: who describes them, and who opens them by settings
_PACKAGES = {"yasa": (yasa_stager.about, yasa_stager.open_stager)}


def parts(bundle: Path | None = None) -> dict[str, Mapping[str, Any]]:
    """What is declared of each part of the default, by name.

    Raises:
        UserError: the declaration is missing or broken.
    """
    bundle = bundle or BUNDLE
    try:
        return {part["name"]: part for part in read_json(bundle)["parts"]}
    except (KeyError, TypeError) as error:
        raise UserError(f"{bundle}: lists no parts; restore it from this project") from error


def names() -> list[str]:
    """Names of the default and of its parts."""
    return [DEFAULT, *parts()]


def load(name: str, device: torch.device, bundle: Path | None = None) -> Stager:
    """The default, or one of its parts, as ``bundle`` (the one of this project) declares it.

    Raises:
        UserError: a checkpoint is missing or damaged.
    """
    if name != DEFAULT:
        return part_of(parts(bundle)[name], device, bundle=bundle)
    # of the parts that prepare a recording alike, the first does it for all
    shared = PreparedOnce()
    opened = [
        Part(part_of(about, device, shared, bundle), about["trained_on"], about["night_relative"])
        for about in parts(bundle).values()
    ]
    return MeanStager(DEFAULT, opened, shared)


def part_of(
    about: Mapping[str, Any],
    device: torch.device,
    prepare: Prepare | None = None,
    bundle: Path | None = None,
) -> Stager:
    """The stager of one part as it is declared."""
    name = about["name"]
    if "package" in about:
        _, open_stager = _PACKAGES[about["package"]]
        return open_stager(device, name=name, **about["settings"])
    check_weights(about, bundle)
    members = [member_of(path, bundle) for path in weights_of(about, bundle)]
    headline = f"{members[0].checkpoint.model}, trained on {about['trained_on']}"
    settings = about.get("settings", {})
    return NetworkStager(name, members, device, headline=headline, prepare=prepare, **settings)


def member_of(path: Path, bundle: Path | None = None) -> Member:
    """A checkpoint with the prototypes that lie beside the bundle, if those are its own.

    Raises:
        UserError: a file is missing or damaged.
    """
    checkpoint, beside = load_checkpoint(path), (bundle or BUNDLE).parent / BUNDLED
    if not beside.is_file():
        return Member(path.stem, checkpoint)
    known = read_from(npz_file.read(beside, "file of prototypes"), beside)
    own = known.weights == checkpoint.fingerprint()
    return Member(path.stem, checkpoint, known if own else None)


def weights_of(about: Mapping[str, Any], bundle: Path | None = None) -> list[Path]:
    """Checkpoints of a part; those of a package's have none here."""
    return [(bundle or BUNDLE).parent / file for file in about.get("checkpoints", ())]


def with_checksums(declared: Iterable[Mapping[str, Any]], folder: Path) -> list[Mapping[str, Any]]:
    """Parts with the SHA-256 of their checkpoints in ``folder``, by the names of their files."""
    return [
        about | {"sha256": {file: sha256(folder / file) for file in about["checkpoints"]}}
        if "checkpoints" in about
        else about
        for about in declared
    ]


def check_weights(about: Mapping[str, Any], bundle: Path | None = None) -> None:
    """Refuse checkpoints that are not those declared; a bundle from before declares no checksum.

    Raises:
        UserError: naming the file.
    """
    for path in weights_of(about, bundle):
        declared = about.get("sha256", {}).get(path.name)
        if "sha256" in about and path.is_file() and sha256(path) != declared:
            raise UserError(
                f"{path}: not the weights that {(bundle or BUNDLE).name} declares (another "
                "SHA-256): damaged or changed; restore the file from this project"
            )


def listed() -> list[Listed]:
    """The default and its parts, for the list of models."""
    rows = [_row(about) for about in parts().values()]
    trained = "; ".join(f"{row.name}: {row.trained_on}" for row in rows)
    mean = Listed(
        name=DEFAULT,
        origin=f"this project, the mean of {', '.join(row.name for row in rows)}",
        trained_on=trained,
        reads="1 EEG",
        licence=", ".join(dict.fromkeys(one for row in rows for one in row.licence.split(", "))),
        n_bytes=sum(row.n_bytes for row in rows),
        is_here=all(row.is_here for row in rows),
        where=_place(BUNDLE),
    )
    return [mean, *rows]


def _row(about: Mapping[str, Any]) -> Listed:
    """One part, for the list of models."""
    paths = weights_of(about)
    origin, where = "this project", ", ".join(map(_place, paths))
    n_bytes = sum(path.stat().st_size for path in paths if path.is_file())
    if "package" in about:
        package = _PACKAGES[about["package"]][0]()
        origin, where = package.origin, f"package {about['package']}"
        n_bytes = package.n_bytes
    return Listed(
        name=about["name"],
        origin=origin,
        trained_on=about["trained_on"],
        reads=about["reads"],
        licence=about["licence"],
        n_bytes=n_bytes,
        is_here=all(path.is_file() for path in paths),
        where=where,
    )


def _place(path: Path) -> str:
    """A path within this project, as one would type it there."""
    return str(path.relative_to(_ROOT) if path.is_relative_to(_ROOT) else path)
