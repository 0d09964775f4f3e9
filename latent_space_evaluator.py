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
from probing.latent_page import write_latent_page
from probing.latent_report import Space, correlations, map_quality, maps, measure
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
CONTROLS = ("random_encoder", "band_powers")


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
        "Metrics that compare pairs of epochs take --sample epochs, so memory is bounded.",
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
    splits = embeddings.load(run / "embeddings", z_of=())
    files = (*splits.values(), controls_of(run, ("weights", "version")))
    if not all(is_of_stamp(stamped(one), run) for one in files):
        raise UserError(
            f"{run}: was trained again, or embedded by an earlier version of this program, so "
            f"its embeddings are out of date; run ssl_evaluate.py --runs {run.name} again"
        )


def controls_of(run: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Those of these arrays that a run's file of controls has."""
    try:
        with np.load(run / "embeddings" / "controls.npz", allow_pickle=False) as file:
            return {name: file[name] for name in names if name in file.files}
    except (OSError, ValueError) as error:
        raise UserError(f"{run}: no controls ({error}); run ssl_evaluate.py") from error


def spaces_of(folders: list[Path]) -> Iterator[Space]:
    """Held-out embeddings of every run, and the controls of the first run with each subjects.

    One at a time: together they could be larger than the memory.
    """
    seen: set[tuple] = set()
    for run in folders:
        arrays = embeddings.load(run / "embeddings", z_of=("held_out",))["held_out"]
        about = [arrays[name] for name in ("stage", "subject", "recording", "epoch")]
        # z_view: embeddings of augmented views of some epochs, for the metrics of alignment
        views = controls_of(run, ["z_view"])["z_view"]
        yield Space(run.name, arrays.pop("z"), *about, views=views)
        # runs of one fold have the same subjects, for whom one set of controls is enough
        subjects = tuple(sorted(set(arrays["subject"].tolist())))
        if subjects not in seen:
            seen.add(subjects)
            for name in CONTROLS:
                control = controls_of(run, [name])[name]
                yield Space(f"{name}, as in {run.name}", control, *about)


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
            night = space.some(np.flatnonzero(recordings == recordings[0]))
            drawn = latent_metrics.stratified(
                space.y, space.subject, flags.map_epochs, seed=flags.seed
            )
            shown = Shown([], drawn, night)
        # only spaces of the same nights can be compared epoch by epoch
        if np.array_equal(space.recording, recordings):
            shown.spaces.append(space.some(shown.rows))
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


def draw(
    shown: Shown,
    rows: list[dict[str, Any]],
    probe: dict[str, float],
    flags: ReportFlags,
    folder: Path,
) -> list[tuple[str, Path]]:
    """Draw all pictures, each beside a file of the numbers it shows; captions and paths."""
    pictures = []

    def keep(picture: Any, name: str, caption: str) -> None:
        pictures.append((caption, figures.save(picture, folder / f"{name}.png")))

    alike, first = shown.spaces, shown.spaces[0]
    if flags.maps:
        drawn = {s.name: maps(s.z, seed=flags.seed) for s in alike}
        quality = {s.name: map_quality(s.z, drawn[s.name]) for s in alike}
        write_json(folder / "map_quality.json", quality)
        for kind in ("PCA", "t-SNE", "UMAP"):
            flat = {name: of_kind[kind] for name, of_kind in drawn.items()}
            write_arrays(folder / f"map_{kind}.npz", {"rows": shown.rows, **flat})
            picture = latent_figures.draw_maps(
                {short(n): p for n, p in flat.items()},
                first.y,
                first.subject,
                kind=kind,
            )
            keep(picture, f"map_{kind}", f"{kind}, by stage and by subject")
    # principal components of this night alone: (epochs, 2)
    path = shown.night.z - shown.night.z.mean(axis=0)
    components = path @ np.linalg.svd(path, full_matrices=False)[2][:2].T
    title = f"{first.name}: {shown.night.recording[0]}"
    keep(
        latent_figures.draw_night(components, shown.night.y, title=title),
        "night",
        "A night's path along its two main components",
    )
    likeness = np.array([[latent_metrics.linear_cka(a.z, b.z) for b in alike] for a in alike])
    names = [short(s.name) for s in alike]
    keep(
        latent_figures.draw_likeness(names, likeness, title="linear CKA"),
        "cka",
        "How alike the encoders see the same epochs (linear CKA)",
    )
    write_table(
        folder / "cka.csv",
        [
            {"space": name, **dict(zip(names, map(float, row), strict=True))}
            for name, row in zip(names, likeness, strict=True)
        ],
    )
    # metric -> (space, value, probe's macro-F1), of metrics that need no labels: can they tell,
    # before anything is scored, how well a probe will do?
    points = {
        metric: [
            (r["space"], r["value"], probe[r["space"]])
            for r in rows
            if r["metric"] == metric and r["space"] in probe and r["value"] is not None
        ]
        for metric in dict.fromkeys(r["metric"] for r in rows if r.get("needs_labels") is False)
    }
    if len(probe) > 1:  # one run is no relation
        keep(
            latent_figures.draw_against_probe(points),
            "against_probe",
            "Label-free metrics against what a linear probe reaches",
        )
    return pictures


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
