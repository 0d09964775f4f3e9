"""Compare the latent spaces of pretrained encoders: metrics, maps, one table and one page.

python latent_space_evaluator.py                          # every ssl run with embeddings
python latent_space_evaluator.py --runs "ssl_contrastive_*" --maps False
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from probing import embeddings, latent_figures, latent_metrics
from probing.latent_maps import map_quality, maps
from probing.latent_page import write_latent_page
from probing.latent_report import Space, correlations, measure
from probing.row_files import scale_of
from utils import figures
from utils.arguments import ScriptParser, add_flag, count, positive, settings_from
from utils.checkpoint import is_of_stamp
from utils.errors import UserError, run_script
from utils.files import (
    check_folder,
    read_json,
    refuse_inputs,
    write_arrays,
    write_json,
    write_table,
    written_folder,
)

# kind of the output folder, which another report may replace, but no other output
REPORT = "report of latent spaces"


@dataclass(frozen=True)
class ReportFlags:
    """Settings of the report, one field per flag; ``output`` is resolved when parsing."""

    project_path: Path
    runs: str
    output: Path
    sample: int
    parts: int
    maps: bool
    map_epochs: int
    seed: int


def parse_args(argv: list[str] | None) -> ReportFlags:
    """Parse the command line; ``--help`` documents it."""
    parser = ScriptParser(
        "Measure and draw the embeddings of held-out subjects, of every run of ssl_evaluate.py.",
        "Metrics that compare pairs of epochs take --sample epochs; the rest reads them in parts.",
    )
    parser.add_argument(
        "--project_path", type=Path, default=Path("results"), help="folder with the runs"
    )
    parser.add_argument("--runs", default="ssl_*", help="pattern that the runs' names must match")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for table, page and pictures (default: <project_path>/latent)",
    )
    parser.add_argument(
        "--sample",
        type=positive,
        default=latent_metrics.MOST,
        help="epochs drawn for metrics that compare pairs of epochs",
    )
    parser.add_argument(
        "--parts",
        type=count,
        default=20,
        help="parts of the subjects left out in turn for the intervals, 0 for none",
    )
    add_flag(parser, "--maps", default=True, help="draw the spaces by PCA, t-SNE and UMAP")
    parser.add_argument("--map_epochs", type=positive, default=1500, help="epochs per map")
    parser.add_argument("--seed", type=count, default=0, help="seed of every sample and map")
    flags = settings_from(parser.parse(argv), ReportFlags)
    return replace(flags, output=flags.output or flags.project_path / "latent")


def main(argv: list[str] | None = None) -> None:
    """Read every latent space, measure and draw it, write table and page."""
    flags = parse_args(argv)
    folders = sorted(path.parent for path in flags.project_path.glob(f"{flags.runs}/embeddings"))
    if not folders:
        raise UserError(
            f"{flags.project_path}: no embeddings in {flags.runs}; run ssl_evaluate.py first"
        )
    refuse_inputs([flags.output], [folder / "embeddings" for folder in folders])
    output = flags.output.resolve()  # a link, where a user chose one
    check_folder(output, REPORT)  # before the long work, not after it
    for folder in folders:
        refuse_outdated(folder)
    rows, shown = measured(spaces_of(folders), flags)
    probe = probes_of(folders)
    with written_folder(output, REPORT) as folder:
        write_table(folder / "metrics.csv", filled(rows))
        correlated = correlations(rows, probe)
        write_table(folder / "correlations.csv", correlated)
        pictures = draw(shown, rows, probe, flags, folder)
        about = {"runs": [f.name for f in folders], "probe_macro_f1": probe}
        write_json(folder / "metrics.json", {**about, "rows": rows, "correlations": correlated})
        write_latent_page(folder / "index.html", rows, probe, correlated, pictures)
    report(rows, probe)
    print(f"written: {flags.output / 'metrics.csv'}   open in a browser: {flags.output}/index.html")


def refuse_outdated(run: Path) -> None:
    """Refuse embeddings of weights that the run has no more, before the long work.

    Raises:
        UserError: naming the run.
    """
    folder = run / "embeddings"
    splits = embeddings.load(folder, of=("held_out",))
    files = (
        *splits.values(),
        embeddings.load_controls(folder, len(splits["held_out"]["stage"])),
    )
    if not all(is_of_stamp(stamped(one), run) for one in files):
        raise UserError(
            f"{run}: was trained again, or embedded by an earlier version of this program, so "
            f"its embeddings are out of date; run ssl_evaluate.py --runs {run.name} again"
        )


def spaces_of(folders: list[Path]) -> Iterator[Space]:
    """Held-out embeddings of every run, and the controls of the first run with each subjects."""
    seen: set[tuple] = set()
    for run in folders:
        arrays = embeddings.load(run / "embeddings", of=("held_out",))["held_out"]
        about = [arrays[name] for name in ("stage", "subject", "recording", "epoch")]
        controls = embeddings.load_controls(run / "embeddings", len(arrays["stage"]))
        yield Space(
            run.name,
            arrays["z"],
            *about,
            # of augmented views of some epochs, for the metrics of alignment
            views=controls["z_view"],
            view_subject=arrays["subject"][controls["view_rows"]],
            train=controls["pretrained_train"],
        )
        # runs of one fold have the same subjects, for whom one set of controls is enough
        subjects = tuple(sorted(set(arrays["subject"].tolist())))
        if subjects not in seen:
            seen.add(subjects)
            for name in embeddings.CONTROLS:
                shown = f"{name}, as in {run.name}"
                yield Space(shown, controls[name], *about, train=controls[f"{name}_train"])


@dataclass(frozen=True)
class Shown:
    """What pictures need of the spaces: ``rows`` of those of the same nights, and one night."""

    spaces: list[Space]
    rows: np.ndarray
    night: Space


def measured(spaces: Iterator[Space], flags: ReportFlags) -> tuple[list[dict[str, Any]], Shown]:
    """Measure one space after the other; rows of the table, and what is drawn of them."""
    rows, shown, recordings = [], None, None
    for space in tqdm(spaces, desc="measuring", unit="space", disable=None):
        rows += measure(space, seed=flags.seed, parts=flags.parts, most=flags.sample)
        if shown is None:
            recordings = space.recording
            night = space.read(np.flatnonzero(recordings == recordings[0]))
            drawn = latent_metrics.stratified(
                space.y, space.subject, flags.map_epochs, seed=flags.seed
            )
            shown = Shown([], drawn, night)
        # only spaces of the same nights can be compared epoch by epoch
        if np.array_equal(space.recording, recordings):
            shown.spaces.append(space.read(shown.rows))
    return rows, shown


def stamped(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """Which weights and version a file of embeddings is of."""
    return {name: str(arrays[name]) for name in ("weights", "version") if name in arrays}


def probes_of(folders: list[Path]) -> dict[str, float]:
    """Macro-F1 of each run's linear probe with all labels, where it was measured."""
    scores = {}
    for run in folders:
        path = run / "evaluation" / "probes.json"
        if not path.exists():
            continue
        probed = read_json(path)
        for row in probed["rows"] if is_of_stamp(probed["about"], run) else ():
            chosen = (row["space"], row["probe"], row["labels"])
            if chosen == ("pretrained", "linear", "all") and row["macro_f1"] is not None:
                scores[run.name] = row["macro_f1"]
    return scores


def filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that all have the same keys, as a csv table needs them; None for missing values."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in keys} for row in rows]


Pictures = list[tuple[str, Path]]  # captions and paths


def draw(
    shown: Shown,
    rows: list[dict[str, Any]],
    probe: dict[str, float],
    flags: ReportFlags,
    folder: Path,
) -> Pictures:
    """Draw all pictures, each beside a file of the numbers it shows."""
    pictures = draw_maps(shown, flags.seed, folder) if flags.maps else []
    pictures += [draw_night(shown, folder), draw_likeness(shown.spaces, folder)]
    if len(probe) > 1:  # one run is no relation
        points = against_probe(rows, probe)
        path = figures.save(latent_figures.draw_against_probe(points), folder / "against_probe.png")
        pictures.append(("Label-free metrics against what a linear probe reaches", path))
    return pictures


def draw_maps(shown: Shown, seed: int, folder: Path) -> Pictures:
    """Draw every space in two dimensions, in three ways, and write how true the maps are.

    Fitted to training subjects; what is drawn and evaluated are held-out epochs in them.
    """
    first, pictures = shown.spaces[0], []
    drawn, quality = {}, {}
    for space in shown.spaces:
        drawn[space.name], again = (maps(space.train, space.z, seed=seed + k) for k in (0, 1))
        mean, sd = scale_of(space.train)
        scaled = (space.z - mean) / sd
        quality[space.name] = map_quality(scaled, drawn[space.name], again)
    write_json(folder / "map_quality.json", quality)
    for kind in ("PCA", "t-SNE", "UMAP"):
        flat = {name: of_kind[kind] for name, of_kind in drawn.items()}
        write_arrays(folder / f"map_{kind}.npz", {"rows": shown.rows, **flat})
        titled = {short(name): points for name, points in flat.items()}
        picture = latent_figures.draw_maps(titled, first.y, first.subject, kind=kind)
        path = figures.save(picture, folder / f"map_{kind}.png")
        pictures.append((f"{kind}, by stage and by subject; {true_to_space(quality, kind)}", path))
    return pictures


def true_to_space(quality: dict[str, dict[str, Any]], kind: str) -> str:
    """How true the maps of a kind are, and how alike those of two seeds, from space to space."""
    parts = []
    for name in ("trustworthiness", "stability"):
        values = [of_kind[kind][name] for of_kind in quality.values()]
        parts.append(f"{name} {min(values):.2f} to {max(values):.2f}")
    return ", ".join(parts)


def draw_night(shown: Shown, folder: Path) -> tuple[str, Path]:
    """Draw the first night along its two main components."""
    # of this night alone: (epochs, 2)
    path = shown.night.z - shown.night.z.mean(axis=0)
    components = path @ np.linalg.svd(path, full_matrices=False)[2][:2].T
    title = f"{shown.night.name}: {shown.night.recording[0]}"
    picture = latent_figures.draw_night(components, shown.night.y, title=title)
    return "A night's path along its two main components", figures.save(
        picture, folder / "night.png"
    )


def draw_likeness(alike: Sequence[Space], folder: Path) -> tuple[str, Path]:
    """Draw how alike every two of the spaces are, and write it as a table."""
    likeness = np.array([[latent_metrics.linear_cka(a.z, b.z) for b in alike] for a in alike])
    names = [short(space.name) for space in alike]
    table = [
        {"space": name, **dict(zip(names, map(float, row), strict=True))}
        for name, row in zip(names, likeness, strict=True)
    ]
    write_table(folder / "cka.csv", table)
    picture = latent_figures.draw_likeness(names, likeness, title="linear CKA")
    caption = "How alike the encoders see the same epochs (linear CKA)"
    return caption, figures.save(picture, folder / "cka.png")


def against_probe(
    rows: list[dict[str, Any]], probe: dict[str, float]
) -> dict[str, list[tuple[str, float, float]]]:
    """Space, value and probe's macro-F1 of each metric that needs no labels.

    Can it tell, before anything is scored, how well a probe will do?
    """
    return {
        metric: [
            (r["space"], r["value"], probe[r["space"]])
            for r in rows
            if r["metric"] == metric and r["space"] in probe and r["value"] is not None
        ]
        for metric in dict.fromkeys(r["metric"] for r in rows if r.get("needs_labels") is False)
    }


def short(name: str) -> str:
    """A space's short name, without the parts that all names share."""
    return name.removeprefix("ssl_").partition(", as in ")[0]


def report(rows: list[dict[str, Any]], probe: dict[str, float]) -> None:
    """Print the main metrics, one line per space."""
    wanted = ("purity", "silhouette_stage", "rank_me", "uniformity", "alignment", "subject_leakage")
    print(f"{'space':<44}{'probe F1':>9}" + "".join(f"{name:>18}" for name in wanted))
    for space in dict.fromkeys(row["space"] for row in rows):
        values = {row["metric"]: row.get("value") for row in rows if row["space"] == space}
        cells = ["–" if values.get(n) is None else f"{values[n]:.3f}" for n in wanted]
        own = f"{probe[space]:.3f}" if space in probe else "–"
        print(f"{short(space):<44}{own:>9}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    raise SystemExit(run_script(main))
