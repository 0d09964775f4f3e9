"""What a training leaves behind: its learning curve, and the command to type next."""

from __future__ import annotations

from training.flags import RESULTS, DataFlags
from utils.arguments import DEMO_STORE, next_command
from utils.files import write_table
from utils.runs import Run


def report(data: DataFlags, run: Run, best_pass: int, chosen_by: str, script: str) -> None:
    """Write the learning curve as a table and a picture, and print the next command.

    ``chosen_by`` is the figure that the best pass has, with a minus where lower is better;
    ``script`` is what comes next, "" for nothing.
    """
    from utils.figures import draw_curve, save

    rows = run.rows()
    if not rows:
        print("nothing trained: --n_epochs 0")
        return
    write_table(run.path / "metrics.csv", rows)
    figure = chosen_by.removeprefix("-")
    picture = save(draw_curve(rows, title=run.path.name), run.path / "curve.png")
    best = next(row for row in rows if row["pass"] == best_pass)
    value = "" if figure == "pass" else f": {figure} {best[f'val_{figure}']:.3f}"
    print(f"best pass {best_pass} of {len(rows)}{value}")
    print(f"curve: {picture}")
    if not script:
        return
    # flags at their defaults are left out of the command that is printed
    where = [] if data.project_path == RESULTS else ["--project_path", data.project_path]
    stored = [] if data.data_path == DEMO_STORE else ["--data_path", data.data_path]
    print(next_command(*script.split(), *where, *stored))
