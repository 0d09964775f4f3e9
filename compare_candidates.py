"""Compare candidates for the default stager on simulated and on partly recorded real nights.

python compare_candidates.py --partial $SLEEP_REAL_DATA/ucddb_partial

``make candidates`` trains them first. The rule of results/weights/rule.md chooses; the table goes
to results/weights/candidates.csv.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from datasets.readers import partial_night
from datasets.readers.any_file import opened
from evaluation import reuse
from evaluation.stagers import yasa_stager
from evaluation.stagers.network_stager import Member, NetworkStager, PreparedOnce
from evaluation.stagers.stager import Asked, Stager
from experiments.bundle_card import NETWORK_SETTINGS, YASA_SETTINGS
from experiments.candidates import (
    PARTS,
    Candidate,
    ExpertNight,
    choose,
    measured,
    rows_of,
    runs_of,
)
from utils.arguments import ScriptParser
from utils.checkpoint import load_checkpoint
from utils.errors import UserError, run_script
from utils.files import check_file, refuse_inputs, write_table, written_whole

HERE = Path(__file__).parent


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Command line; ``--help`` is its documentation."""
    parser = ScriptParser(
        "Stage held-out nights by every candidate for the default, and choose by the written rule.",
        "Stagings are kept and not made again for the same weights.",
    )
    parser.add_argument(
        "--weights", type=Path, default=Path("data/weights"), help="folder of make candidates"
    )
    parser.add_argument(
        "--simulated",
        type=Path,
        default=Path("data/weights/raw_compared"),
        help="folder of simulated recordings that trained nothing",
    )
    parser.add_argument(
        "--partial", type=Path, help="folder of partly recorded real nights, .npz files"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=HERE / "results" / "weights" / "candidates.csv",
        help="table to write",
    )
    args = parser.parse(argv)
    if args.partial is None:
        raise UserError("--partial names the folder of the partly recorded real nights")
    return args


def main(argv: list[str] | None = None) -> None:
    """Stage every night by every part and seed, measure all candidates, choose one."""
    args = parse_args(argv)
    shared = PreparedOnce()
    parts = dict(parts_of(args.weights, shared))
    files = [*sorted(args.simulated.glob("*-PSG.edf")), *sorted(args.partial.glob("*.npz"))]
    if not files:
        raise UserError(f"{args.simulated}, {args.partial}: no recordings there")
    refuse_inputs([args.output], files)
    check_file(args.output)  # before the long work, not after it
    staged: dict[str, dict[int, dict[str, np.ndarray]]] = {}
    nights = []
    for path in tqdm(files, desc="nights", unit="night", disable=None):
        night, of_parts = stagings(path, parts, args.weights / "stagings")
        shared.forget()
        nights.append(night)
        for (kind, seed), probabilities in of_parts.items():
            staged.setdefault(kind, {}).setdefault(seed, {})[night.name] = probabilities
    candidates = measured(staged, nights)
    write_table(args.output, rows_of(candidates, []))  # measured, whatever the rule makes of it
    chosen, eligible = choose(candidates)
    write_table(args.output, rows_of(candidates, eligible))
    report(chosen, eligible)


def parts_of(folder: Path, shared: PreparedOnce) -> Iterator[tuple[tuple[str, int], Stager]]:
    """Every part and seed: runs in ``parts/<kind>/seed<k>``, and YASA."""
    cpu = torch.device("cpu")
    for kind in PARTS:
        for seed, path in runs_of(folder, kind).items():
            name = f"{kind}-{seed}"
            members = [Member(name, load_checkpoint(path))]
            stager = NetworkStager(name, members, cpu, prepare=shared, **NETWORK_SETTINGS)
            yield (kind, seed), stager
    yield ("yasa", 0), yasa_stager.open_stager(cpu, name="yasa", **YASA_SETTINGS)


def stagings(
    path: Path, parts: dict[tuple[str, int], Stager], kept: Path
) -> tuple[ExpertNight, dict[tuple[str, int], np.ndarray]]:
    """A night's expert, and every part's probabilities (n, 5), from ``kept`` where they are."""
    if path.suffix == ".npz":
        file, expert = partial_night.read(path)
        night = ExpertNight(path.stem, expert, is_real=True)
    else:
        file, night = opened(path), None
    out = {}
    for key, stager in parts.items():
        asked = Asked(expert="none" if path.suffix == ".npz" else None)
        origin = reuse.origin_of(reuse.made_with(path, asked.expert, [stager.fingerprint], {}))
        made = sha256(f"{origin.sha256} {origin.settings}".encode()).hexdigest()[:12]
        target = kept / f"{path.stem}-{stager.name}-{made}.npz"
        if not target.exists():
            one = stager.stage(file, asked)
            with written_whole(target) as temporary, temporary.open("wb") as opened_file:
                np.savez(opened_file, probabilities=one.probabilities, expert=one.expert)
        with np.load(target) as arrays:
            out[key] = arrays["probabilities"]
            night = night or ExpertNight(path.stem, arrays["expert"], is_real=False)
    return night, out


def report(chosen: Candidate, eligible: list[Candidate]) -> None:
    """Print the eligible candidates, best first, and the chosen one."""
    for one in sorted(eligible, key=lambda one: -one.score):
        print(f"{one.score:.3f}  seeds within {one.spread:.3f}  {' + '.join(one.parts)}")
    print(f"chosen by the rule: {' + '.join(chosen.parts)}")


if __name__ == "__main__":
    raise SystemExit(run_script(main))
