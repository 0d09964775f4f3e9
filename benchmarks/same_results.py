"""Whether two versions leave the same behind: arrays, weights, probabilities, metric values.

python -m benchmarks.same_results record before.json        # in the old checkout; minutes
python -m benchmarks.same_results record after.json         # in the new one
python -m benchmarks.same_results compare before.json after.json --names docs/renamed.csv

One thread, CPU. Times, dates, versions and paths are masked; pictures, pages and other prose need
only be there. ``--names`` is a table (what, old, new) of files, keys and words that were renamed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from utils.checkpoint import load_tensors
from utils.errors import run_script
from utils.files import check_file, write_json

ROOT = Path(__file__).parents[1]
_MASKED = re.compile(r"seconds(_.*)?|total_seconds|versions?|command|config|created|date|sha256")
_PROSE = {".html", ".png", ".pdf", ".svg", ".md", ".tex", ".txt", ".log", ".lock"}
_SMALL = "--d_model 16 --n_heads 2 --dim_feedforward 16 --layers 1 --local_layers 1"
_QUICK = "--logger csv --n_epochs 2 --accelerator cpu"
_ON = "--data_path {0}/store --project_path {0}/results"
_ROLES = "--roles EOG EEG SPO2 ABDO --resample 25 --jobs 1"
# {0} is the folder of the record; in order, since later commands read what earlier ones wrote
COMMANDS = (
    "generate_demo_data.py --subjects 4 --nights 1 --hours 0.7 --jobs 1 --output {0}/sleepedf",
    "preprocess_sleepedf.py --raw_path {0}/sleepedf --save_path {0}/store --jobs 1",
    f"cmt_training.py --model_type Seq {_ON} {_QUICK} --train_data_list 0,1,2 --d_model 16 "
    "--dim_feedforward 16",
    f"cmt_evaluate.py --model_type Seq {_ON} --is_interpret True --n_random 2 --n_untrained 1 "
    "--interpret_select per_stage:1 --truth_path {0}/sleepedf --device cpu",
    f"cmt_training.py --model_type Epoch {_ON} {_QUICK} --train_data_list 0,1,2 --d_model 16 "
    "--dim_feedforward 16",
    f"cmt_evaluate.py --model_type Epoch {_ON} --device cpu",
    f"staging_training.py -e chambon2018 {_ON} {_QUICK} --train_data_list 0,1,2 --first_epochs 1",
    f"staging_evaluate.py -e chambon2018 {_ON} --is_interpret True --n_random 2 --n_untrained 1 "
    "--interpret_methods saliency,specgrad,gradcam --truth_path none --device cpu",
    f"staging_training.py -e tinysleepnet {_ON} {_QUICK} --train_data_list 0,1,2 --channels EEG",
    f"staging_evaluate.py -e tinysleepnet {_ON} --device cpu",
    f"staging_training.py -e seqsleepnet {_ON} {_QUICK} --train_data_list 0,1,2 --channels EEG "
    "--num_seq 5",
    f"staging_evaluate.py -e seqsleepnet {_ON} --device cpu",
    f"ssl_training.py --objective masked --encoder cnn {_ON} {_QUICK}",
    f"ssl_training.py --objective contrastive --encoder transformer {_ON} {_QUICK}",
    f"ssl_evaluate.py {_ON} --runs all --seeds 0 --fractions 0.5,1 --tuning_steps 2 --device cpu",
    "latent_space_evaluator.py --project_path {0}/results --maps False --parts 3",
    "generate_demo_data.py --format nsrr --cohort shhs --subjects 5 --hours 0.5 --jobs 1 "
    "--output {0}/shhs",
    "generate_demo_data.py --format nsrr --cohort mesa --subjects 2 --hours 0.5 --jobs 1 "
    "--output {0}/mesa",
    f"preprocess_nsrr.py --cohort shhs --raw_path {{0}}/shhs --save_path {{0}}/roles {_ROLES}",
    f"preprocess_nsrr.py --cohort mesa --raw_path {{0}}/mesa --save_path {{0}}/other {_ROLES}",
    "foundation_training.py --data_path {0}/roles --project_path {0}/results --batch_size 2 "
    f"{_QUICK} {_SMALL}",
    "foundation_evaluate.py --data_path {0}/roles --project_path {0}/results --seeds 0 "
    "--device cpu",
    "foundation_training.py --stage probe --data_path {0}/roles --project_path {0}/results "
    f"{_QUICK}",
    "foundation_evaluate.py --data_path {0}/roles --project_path {0}/results --is_interpret "
    "--other_stores {0}/other --device cpu",
    "generate_demo_data.py --format dreem --subjects 2 --hours 0.5 --jobs 1 --output {0}/dreem",
    "preprocess_dreem.py --raw_path {0}/dreem --save_path {0}/dreem_store --jobs 1 "
    "--scorers {0}/dreem/scorers",
    "predict.py --edf {0}/sleepedf -o {0}/staged --device cpu",
    "predict.py --edf {0}/sleepedf/SC4001E0-PSG.edf -o {0}/reasons --explain 4 --device cpu",
    "predict.py --edf {0}/dreem -o {0}/dreem_staged --device cpu",
    "predict.py --edf {0}/sleepedf/SC4011F0-PSG.edf -o {0}/one.csv {0}/one.json {0}/one.tsv "
    "--is_interpret False --device cpu",
)


def main(argv: list[str] | None = None) -> None:
    """Record or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("record", "compare"))
    parser.add_argument("files", nargs="+", type=Path, help="record: one; compare: before, after")
    parser.add_argument("--names", type=Path, help="csv of what, old, new")
    args = parser.parse_args(argv)
    if args.what == "compare":
        before, after = (json.loads(path.read_text()) for path in args.files)
        raise SystemExit(compare(renamed(before, args.names), after))
    check_file(args.files[0])  # before minutes of work that could not be written
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            run(command.format(folder), folder)
        contents = {str(k): v for k, v in left_behind(Path(folder))}
    write_json(args.files[0], contents)
    print(f"{len(contents)} files recorded in {args.files[0]}")


def run(command: str, folder: str) -> None:
    """Run one script on one thread and print its last line."""
    words = [sys.executable, *command.split()]
    # one thread adds in one order: the same sums to the last bit
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    last = (done.stdout.strip().splitlines() or [""])[-1].replace(folder, "FOLDER")
    print(f"{done.returncode}  {words[1]}: {last[:90]}", flush=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip().splitlines()[-1])


def left_behind(folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """Every file and what it holds: a value or checksum for every key."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        # hidden files are lists of what was written, with checksums of files that hold dates
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            yield name, {k: v.replace(str(folder), "FOLDER") for k, v in contents_of(path)}


def contents_of(path: Path) -> Iterator[tuple[str, str]]:
    """Keys and values of one file, by its kind."""
    if path.suffix in _PROSE:
        yield "prose", "there"  # bytes depend on fonts, library versions and dates
    elif path.suffix in (".json", ".jsonl"):
        for number, text in enumerate(
            [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
        ):
            yield from flat(json.loads(text), str(number))
    elif path.suffix in (".csv", ".tsv"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))
        for column in rows[0] if rows else ():
            yield from flat([row[column] for row in rows], column)
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                yield from flat(arrays[name], name)
    elif path.suffix == ".pt":
        yield from flat(load_tensors(path), "")
    else:
        yield "bytes", hashlib.sha256(path.read_bytes()).hexdigest()


def flat(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Nested values by dotted keys; arrays and columns by checksum, what is masked left out."""
    if _MASKED.fullmatch(key.rpartition(".")[2]):
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from flat(inner, f"{key}.{name}")
    elif isinstance(value, list) and any(isinstance(one, (dict, list)) for one in value):
        for number, inner in enumerate(value):
            yield from flat(inner, f"{key}.{number}")
    elif isinstance(value, (np.ndarray, torch.Tensor)):
        array = np.ascontiguousarray(value.numpy() if isinstance(value, torch.Tensor) else value)
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        yield key, f"{array.dtype} {array.shape} {digest}"
    else:
        # repr: 1, 1.0 and "1" are three values
        yield key, repr(value)


def renamed(before: dict[str, dict[str, str]], names: Path | None) -> dict[str, dict[str, str]]:
    """The old record with its files, keys and words by their new names."""
    tables: dict[str, list[tuple[str, str]]] = {"file": [], "key": [], "word": []}
    if names:
        with names.open(newline="") as file:
            for row in csv.DictReader(file):
                tables[row["what"]].append((row["old"], row["new"]))

    def new(what: str, text: str) -> str:
        for old, now in tables[what]:
            # whole words only, but a number may follow, as in names that end in an epoch's number
            text = re.sub(rf"(?<![A-Za-z0-9_]){old}(?![A-Za-z_])", now, text)
        return text

    return {
        new("file", path): {new("key", key): new("word", value) for key, value in entries.items()}
        for path, entries in before.items()
    }


def compare(before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]) -> int:
    """Print what differs; 0 if nothing does."""
    differences = [f"gone: {path}" for path in sorted(before.keys() - after.keys())]
    added = [f"added: {path}" for path in sorted(after.keys() - before.keys())]
    for path in sorted(before.keys() & after.keys()):
        old, now = before[path], after[path]
        for key in sorted(old.keys() | now.keys()):
            if key not in old:  # listed, but no difference: a newer version may write more
                added.append(f"added: {path}: {key}")
            elif old[key] != now.get(key):
                differences.append(f"{path}: {key}: {old[key]} -> {now.get(key)}"[:300])
    values = sum(map(len, before.values()))
    print("\n".join([*differences[:60], *added[:20]]))
    print(
        f"{len(before)} files, {values} values compared: {len(differences)} gone or different, "
        f"{len(added)} added"
    )
    return int(bool(differences))


if __name__ == "__main__":
    raise SystemExit(run_script(main))
