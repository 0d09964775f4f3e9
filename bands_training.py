"""Train night_bands, a small network over whole nights of band powers, on tables, stores or both.

python bands_training.py                                              # the demo store
python bands_training.py --table sc153.npz --n_test 16 --n_val 10     # a table of real nights
python bands_training.py --data_path data/a data/b --stage_means sc153.npz
python bands_training.py --data_path data/a --tables_only             # measure the bands, no more
"""

from __future__ import annotations

import argparse
from pathlib import Path

from objectives.band_augmentation import BAND_AUGMENTATIONS
from training import bands_family, flags
from training.bands_family import BandSettings
from utils.arguments import (
    DEMO_STORE,
    ScriptParser,
    add_flag,
    add_list,
    changed,
    count,
    next_command,
    not_negative,
    positive,
    settings_from,
)
from utils.errors import UserError, run_script


def parse_args(argv: list[str] | None) -> tuple[BandSettings, bool]:
    """Parse the command line; the settings, and whether only tables are made."""
    parser = ScriptParser(
        "Train a network that reads one EEG's band powers relative to the whole night.",
        "Subjects are split by --split_seed (default: --seed), in each table and store alike. "
        "Next: bands_evaluate.py.",
    )
    add_data(parser.add_argument_group("data"))
    add_model(parser.add_argument_group("model and objective"))
    flags.add_adamw(parser.add_argument_group("optimiser"), lr=1e-2, over="the largest source")
    flags.add_run(parser.add_argument_group("run"))
    args = parser.parse(argv)
    settings = resolve_defaults(flags.resolve_shared(settings_from(args, BandSettings)))
    bands_family.check(settings.run)
    return settings, args.tables_only


def add_data(group: argparse._ArgumentGroup) -> None:
    """Add the flags of tables, stores and the split."""
    add_list(group, "--table", item=Path, default=[], help="tables of band powers, .npz files")
    add_list(
        group,
        "--data_path",
        item=Path,
        default=[],
        help="stores, whose band powers are measured once and kept in the project folder "
        "(default: the demo store, if there is no --table)",
    )
    group.add_argument(
        "--project_path", type=Path, default=flags.RESULTS, help="folder for the folder of the run"
    )
    group.add_argument(
        "--stage_means",
        type=Path,
        help="table to whose training subjects' stage means simulated nights are moved",
    )
    group.add_argument(
        "--n_test", type=count, default=1, help="subjects of each table or store held out"
    )
    group.add_argument(
        "--n_val",
        type=positive,
        default=1,
        help="subjects of each table or store on whom the best checkpoint is selected",
    )
    group.add_argument(
        "--split_seed", type=count, help="seed of the split, for other --seed on the same subjects"
    )
    add_flag(group, "--tables_only", help="measure the band powers of the stores and stop")


def add_model(group: argparse._ArgumentGroup) -> None:
    """Add the flags of the network and of what training nights go through."""
    group.add_argument("--hidden", type=positive, default=64, help="width in each direction")
    group.add_argument("--layers", type=positive, default=2, help="recurrent layers")
    group.add_argument("--dropout", type=not_negative, default=0.3, help="dropout probability")
    add_list(
        group,
        "--augment",
        default=list(BAND_AUGMENTATIONS),
        help=f"random changes of training nights, of {', '.join(BAND_AUGMENTATIONS)}; [] for none",
    )
    group.add_argument(
        "--label_smoothing", type=not_negative, default=0.0, help="share of a label given to all"
    )


def resolve_defaults(settings: BandSettings) -> BandSettings:
    """Take the demo store where neither a table nor a store is named.

    Raises:
        UserError: a share that is not below 1.
    """
    shares = {
        "dropout": settings.model.dropout,
        "label_smoothing": settings.objective.label_smoothing,
        "warmup": settings.optimiser.warmup,
    }
    for name, share in shares.items():
        if share >= 1:
            raise UserError(f"--{name} takes a share below 1")
    if settings.data.table or settings.data.data_path:
        return settings
    return changed(settings, data_path=[DEMO_STORE])


def main(argv: list[str] | None = None) -> None:
    """Measure or read the band powers, split the subjects, train."""
    settings, tables_only = parse_args(argv)
    sources = bands_family.open_sources(settings.data, bands_family.split_seed(settings))
    if tables_only:
        for source in sources:
            print(f"{source.table.path}: {len(source.table.nights)} nights")
        return
    run = bands_family.train_bands(settings, sources)
    print(next_command("python", "bands_evaluate.py", "--model_path", run.checkpoint("best")))


if __name__ == "__main__":
    raise SystemExit(run_script(main))
