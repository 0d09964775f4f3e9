"""Synthetic nights as genuine files, with the planted evidence listed beside each.

    python generate_demo_data.py                                  # 8 subjects, 15 nights of 8 h
    python generate_demo_data.py --profile tiny --output data/tiny   # a second, to try things
    python generate_demo_data.py --profile night                  # whole 22 h cassette tapes

Nothing here is clinical data: the statistics are those of real sleep, the subjects do not exist.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import joblib
from tqdm import tqdm

from datasets.synthetic import dreem_files, nsrr_files, sleepedf_files
from datasets.synthetic.night import OMITTABLE, Night, draw_night
from datasets.synthetic.recorders import odd_night, vary
from datasets.synthetic.subject import Difficulty, draw_subject
from datasets.synthetic.timeline import SPECIALS
from datasets.synthetic.truth import latent_stages
from utils.arguments import ScriptParser, add_flag, add_list, next_command, settings_from
from utils.errors import UserError, run_script
from utils.files import check_file, locked, sweep, write_json

DEMO = Path("data/demo")
# subjects, nights each, hours (None: the format's own length)
PROFILES = {"tiny": (2, 1, 0.7), "small": (8, 2, 8.0), "night": (8, 2, None)}
FORMATS = ("sleepedf", "dreem", "nsrr")
_APART = 100_003  # between two cohorts' subjects: no small --seed reaches another cohort's
SUFFIXES = {"sleepedf": ".edf", "dreem": ".h5", "nsrr": ".edf"}


@dataclass(frozen=True)
class DemoFlags:
    """What the command line asks for; ``hours`` of None are the format's own."""

    output: Path
    format: str
    cohort: str | None
    profile: str
    subjects: int
    nights: int
    hours: float | None
    seed: int
    difficulty: int
    omit: list[str]
    one_background: bool
    distractors: bool
    varied: bool
    special: str | None
    jobs: int


def parse_args(argv: list[str] | None) -> DemoFlags:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Write a synthetic cohort as genuine recordings.",
        "Same seed and settings, same bytes, for any number of --jobs.",
    )
    parser.add_argument(
        "--output", type=Path, help="folder of the recordings; data/demo/<format> by default"
    )
    parser.add_argument("--format", choices=FORMATS, default="sleepedf", help="file layout")
    parser.add_argument(
        "--cohort", choices=nsrr_files.COHORTS, help="whose files, of --format nsrr (shhs)"
    )
    parser.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        default="small",
        help="size: tiny (2 x 0.7 h), small (8 subjects x 8 h), night (8 subjects, whole tapes)",
    )
    parser.add_argument("--subjects", type=int, help="number of subjects instead of the profile's")
    parser.add_argument("--nights", type=int, choices=(1, 2), help="nights of each subject")
    parser.add_argument("--hours", type=float, help="length of a recording; 0 is the format's own")
    parser.add_argument("--seed", type=int, default=0, help="every random number follows from it")
    parser.add_argument(
        "--difficulty",
        type=int,
        choices=(0, 1, 2),
        default=1,
        help="0: easy, for sanity checks; 1: as hard as real nights; 2: harder",
    )
    add_list(
        parser,
        "--omit",
        default=[],
        help="leave these out and change nothing else: " + ", ".join(OMITTABLE),
    )
    add_flag(
        parser,
        "--one_background",
        help="the same noise in every stage: only planted events tell stages apart",
    )
    add_flag(
        parser,
        "--distractors",
        help="add waves that resemble events in all but shape, band or channel, to test "
        "explanations",
    )
    add_flag(
        parser,
        "--varied",
        help="another recorder, montage, rate and worse sleep for every subject, and odd nights "
        "for some of them (sleepedf)",
    )
    parser.add_argument("--special", choices=SPECIALS, help="a night with a peculiarity")
    parser.add_argument("--jobs", type=int, default=-1, help="nights at once; -1: one per core")
    flags = resolve_defaults(settings_from(parser.parse(argv), DemoFlags))
    check(flags)
    return flags


def resolve_defaults(flags: DemoFlags) -> DemoFlags:
    """The profile's sizes, the format's cohort and its folder where nobody asked for others.

    Raises:
        UserError: something that the format does not have.
    """
    subjects, nights, hours = PROFILES[flags.profile]
    if flags.varied and flags.format != "sleepedf":
        raise UserError("--varied belongs to --format sleepedf")
    if flags.cohort and flags.format != "nsrr":
        raise UserError("--cohort belongs to --format nsrr")
    cohort = flags.cohort or ("shhs" if flags.format == "nsrr" else None)
    if flags.format == "dreem" or cohort in nsrr_files.ONE_VISIT:
        nights = 1
        if flags.nights == 2:
            raise UserError(
                f"--format {flags.format}: one night per subject, as in the real cohorts"
            )
    return replace(
        flags,
        subjects=subjects if flags.subjects is None else flags.subjects,
        cohort=cohort,
        nights=nights if flags.nights is None else flags.nights,
        # --hours 0 is the format's own length, even where the profile has another
        hours=hours if flags.hours is None else (flags.hours or None),
        output=flags.output or DEMO / (cohort or flags.format),
    )


def check(flags: DemoFlags) -> None:
    """Refuse settings that cannot work.

    Raises:
        UserError: naming the flag.
    """
    if not 1 <= flags.subjects <= 100:
        raise UserError("--subjects takes 1 to 100: file names have two digits for them")
    if flags.hours is not None and not 0.3 <= flags.hours <= 24:
        raise UserError("--hours takes 0.3 to 24, or 0 for the format's own length")
    if flags.seed < 0:
        raise UserError("--seed takes a whole number from 0")
    if flags.jobs == 0:
        raise UserError("--jobs takes a number of processes, or -1 for one per core")
    if unknown := sorted(set(flags.omit) - set(OMITTABLE)):
        raise UserError(f"--omit: no such thing: {', '.join(unknown)}; see --help")


def main(argv: list[str] | None = None) -> None:
    """Write a synthetic cohort and its manifest."""
    flags = parse_args(argv)
    tasks = nights_of(flags.subjects, flags.nights)
    with locked(flags.output):
        generate(flags, tasks)


def generate(flags: DemoFlags, tasks: list[tuple[int, int]]) -> None:
    """Write every night, several at once; the caller has the lock of the output folder."""
    suffix = SUFFIXES[flags.format]
    refuse_foreign(flags.output, suffix, {layout_of(flags).stem_of(*task) for task in tasks})
    sweep(flags.output, depth=5)  # what a killed run left; NSRR layouts have nested folders
    jobs = joblib.cpu_count() if flags.jobs < 0 else flags.jobs
    # a generator, so that the bar moves with every night and not once at the end
    run = joblib.Parallel(n_jobs=min(jobs, len(tasks)), return_as="generator")
    work = run(joblib.delayed(write_one)(flags, *task, task == tasks[-1]) for task in tasks)
    rows = list(tqdm(work, total=len(tasks), desc="nights", unit="night"))
    summarise(flags, rows)


def layout_of(flags: DemoFlags) -> Any:
    """The format's ``stem_of(subject, night)`` and ``write(folder, night, settings, is_last)``."""
    if flags.format == "nsrr":
        return nsrr_files.Layout(flags.cohort)
    return {"sleepedf": sleepedf_files, "dreem": dreem_files}[flags.format]


def nights_of(subjects: int, nights: int) -> list[tuple[int, int]]:
    """(subject, night) pairs; like in the real cohort, one subject has a single night."""
    tasks = [(subject, night) for subject in range(subjects) for night in range(1, nights + 1)]
    if nights == 2 and subjects > 2:
        tasks.remove((subjects - 2, 2))
    return tasks


def refuse_foreign(folder: Path, suffix: str, stems: set[str]) -> None:
    """Never mix a cohort with other recordings, nor replace one that was edited.

    Raises:
        UserError: naming the file.
    """
    ours = {name_of(s) for s in stems if (folder / f"{s}_truth.json").is_file()}
    # of every format, since a folder of another one is not this cohort's either
    recordings = sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES.values())
    foreign = [p.name for p in recordings if p.suffix != suffix or name_of(p.stem) not in ours]
    if foreign:
        raise UserError(
            f"{folder}: holds {foreign[0]}, which is not of this cohort; delete that folder or "
            "choose another --output"
        )
    check_file(folder / "manifest.json")
    # one with its truth beside it may still have been edited
    for path in recordings:
        check_file(path)


def name_of(stem: str) -> str:
    """Name that a night's files share: seven characters in Sleep-EDF, else the whole stem."""
    # the eighth character is another one in a hypnogram, where it stands for the scorer
    return stem[:7] if stem.startswith(("SC4", "ST7")) else stem.removesuffix("-nsrr")


def write_one(flags: DemoFlags, subject: int, number: int, last: bool) -> dict:
    """Draw and write one night; its row of the manifest, with how certain its labels are."""
    person = draw_subject(subject_seed(flags), subject, Difficulty(flags.difficulty))
    if flags.varied:
        person = vary(person)
        if flags.special is None:
            special, hours = odd_night(person, flags.hours)
            flags = replace(flags, special=special, hours=hours)
    night = draw_night(
        person,
        number,
        hours=flags.hours,
        special=flags.special,
        omit=tuple(flags.omit),
        one_background=flags.one_background,
        distractors=flags.distractors,
    )
    stem = layout_of(flags).write(flags.output, night, settings_of(flags), is_last=last)
    return {"recording": stem, "hours": night.seconds / 3600, **agreement(night)}


def subject_seed(flags: DemoFlags) -> int:
    """Seed of the subjects, other ones in every NSRR cohort, so that no two cohorts share any."""
    if flags.cohort is None:
        return flags.seed
    return flags.seed + _APART * (1 + nsrr_files.COHORTS.index(flags.cohort))


def agreement(night: Night) -> dict[str, int]:
    """Scored epochs, and how many of them a reader of the latent stage would label alike."""
    labels = night.timeline.labels
    scored = labels >= 0
    same = latent_stages(night)[scored] == labels[scored]
    return {"scored_epochs": int(scored.sum()), "latent_agrees": int(same.sum())}


def settings_of(flags: DemoFlags) -> dict:
    """Settings that the files' content follows from."""
    # some only where they are set: other files keep the bytes from before these flags
    names = (
        "format",
        *(["cohort"] if flags.cohort else []),
        "seed",
        "subjects",
        "nights",
        "hours",
        "difficulty",
        "omit",
        "special",
        "one_background",
        *(["distractors"] if flags.distractors else []),
        *(["varied"] if flags.varied else []),
    )
    values = asdict(flags)
    return {name: values[name] for name in names}


def summarise(flags: DemoFlags, rows: list[dict]) -> None:
    """Write ``manifest.json``, and print what was generated and which command comes next."""
    share = sum(r["latent_agrees"] for r in rows) / sum(r["scored_epochs"] for r in rows)
    manifest = {
        "settings": settings_of(flags),
        "latent_agreement": round(share, 4),
        "recordings": rows,
        "note": "synthetic nights of nobody; never report figures on them as a real cohort's",
    }
    write_json(flags.output / "manifest.json", manifest)
    hours = sum(row["hours"] for row in rows)
    print(f"{len(rows)} synthetic nights, {hours:.0f} hours, in {flags.output}")
    print(f"a perfect reader of the signals would agree with {100 * share:.1f} % of the labels")
    # preprocessing has the demo's folders as its defaults
    is_demo = flags.output == DEMO / (flags.cohort or flags.format)
    paths = ["--raw_path", flags.output, "--save_path", f"{flags.output}_store"]
    words = [
        *(["--cohort", flags.cohort] if flags.cohort else []),
        *([] if is_demo else paths),
        *(["--resample", 100] if flags.varied else []),  # every subject has another recorder
    ]
    print(next_command("python", f"preprocess_{flags.format}.py", *words))


if __name__ == "__main__":
    raise SystemExit(run_script(main))
