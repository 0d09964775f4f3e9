"""Draw the rooms and the way of the data as SVG, from the docstrings and imports of the code.

python docs/draw_diagrams.py        # writes docs/rooms.svg and docs/data_path.svg
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = "scripts"
Box = tuple[int, int, int, int]  # x, y, width, height
# rooms from the scripts down; the columns keep arrows from crossing boxes
ROOM_BOXES: Mapping[str, Box] = {
    SCRIPTS: (20, 20, 960, 56), "experiments": (360, 112, 280, 84),
    "evaluation": (360, 232, 280, 84), "interpret": (20, 352, 280, 84),
    "training": (360, 352, 280, 84), "probing": (700, 352, 280, 84),
    "models": (20, 472, 280, 84), "datasets": (360, 472, 280, 84),
    "objectives": (700, 472, 280, 84), "utils": (20, 592, 960, 56),
}  # fmt: skip
# what a night passes through -> its place, and what happens there
STEP_BOXES: Mapping[str, tuple[Box, str]] = {
    "datasets.readers": ((20, 20, 190, 90), "a file's channels, units, start, expert's stages"),
    "datasets.store.preparation": ((300, 20, 190, 90), "trimmed, filtered, cut into epochs"),
    "datasets.store.store": ((580, 20, 190, 90), "prepared nights on disk, memory-mapped"),
    "datasets.store.views": ((860, 20, 190, 90), "standardised batches and whole nights"),
    "utils.checkpoint": ((580, 180, 190, 90), "the model, and which subjects it has seen"),
    "training.train": ((860, 180, 190, 90), "model, objective and loop; subjects split"),
    "evaluation.stagers": ((20, 340, 190, 90), "one file staged, prepared as the model needs it"),
    "evaluation.staged_file": ((300, 340, 190, 90), "stages, votes, and who can explain them"),
    "evaluation.stage": ((580, 340, 190, 90), "held-out nights, as the checkpoint reads them"),
    "evaluation.exports": ((20, 500, 190, 90), "csv, BIDS events and EDF+ annotations"),
    "interpret.explain_nights": ((300, 500, 190, 90), "why epochs of interest got their stage"),
    "evaluation.night_page": ((580, 500, 190, 90), "one page: stages, probabilities, reasons"),
    "evaluation.score": ((860, 500, 190, 90), "agreement with the expert, by subject"),
}  # fmt: skip
# from, to, and the class that is handed on: both ends import it (or define it)
HANDED_ON = (
    ("datasets.readers", "datasets.store.preparation", "datasets.readers.recording.Recording"),
    ("datasets.store.preparation", "datasets.store.store",
     "datasets.store.preparation.PreparedNight"),
    ("datasets.store.store", "datasets.store.views", "datasets.store.store.Store"),
    ("datasets.store.views", "training.train", "datasets.store.views.View"),
    ("datasets.store.views", "evaluation.stage", "datasets.store.views.View"),
    ("training.train", "utils.checkpoint", "utils.checkpoint.Checkpoint"),
    ("utils.checkpoint", "evaluation.stage", "utils.checkpoint.Checkpoint"),
    ("utils.checkpoint", "evaluation.stagers", "utils.checkpoint.Checkpoint"),
    ("datasets.readers", "evaluation.stagers", "datasets.readers.recording.Recording"),
    ("evaluation.stagers", "evaluation.staged_file", "evaluation.staged_file.StagedFile"),
    ("evaluation.staged_file", "evaluation.exports", "utils.staged_night.StagedNight"),
    ("evaluation.staged_file", "interpret.explain_nights",
     "interpret.explained_night.ExplainedNight"),
    ("evaluation.stage", "interpret.explain_nights", "utils.staged_night.StagedNight"),
    ("evaluation.stage", "evaluation.score", "utils.staged_night.StagedNight"),
    ("interpret.explain_nights", "evaluation.night_page",
     "interpret.explained_night.ExplainedNight"),
)  # fmt: skip


def main() -> None:
    """Write both drawings beside this file."""
    for name, drawing in drawings().items():
        (ROOT / "docs" / name).write_text(drawing, encoding="utf-8")
        print(f"docs/{name}")


def drawings() -> dict[str, str]:
    """File name -> SVG."""
    return {"rooms.svg": draw_rooms(), "data_path.svg": draw_data_path()}


def draw_rooms() -> str:
    """A box for each room with the sentence of its docstring, and an arrow for each import."""
    table = {room: imports - {"utils"} for room, imports in room_imports().items()}
    parts = [
        arrow(ROOM_BOXES[room], ROOM_BOXES[other])
        for room, imports in table.items()
        for other in sorted(without_detours(room, imports, table))
    ]
    for room, at in ROOM_BOXES.items():
        parts.append(box(at, room if room == SCRIPTS else f"{room}/", sentence_of(room)))
    note = "An arrow means: imports. Left out: arrows that follow from others, and those to utils/."
    return svg(1000, 690, parts, note)


def draw_data_path() -> str:
    """Modules on the way from a file to a page, and the classes they hand on."""
    parts = [box(at, step, text) for step, (at, text) in STEP_BOXES.items()]
    for start, end, handed in HANDED_ON:
        label = handed.rpartition(".")[2]
        parts.append(arrow(STEP_BOXES[start][0], STEP_BOXES[end][0], label))
    return svg(
        1070, 636, parts, "Boxes are modules; arrows carry the class that one hands to the next."
    )


def room_imports() -> dict[str, set[str]]:
    """Room -> the rooms that its modules import; all root scripts count as one."""
    table: dict[str, set[str]] = {room: set() for room in ROOM_BOXES}
    for room in ROOM_BOXES:
        for path in ROOT.glob("*.py") if room == SCRIPTS else (ROOT / room).rglob("*.py"):
            tops = {name.partition(".")[0] for name in imported(path)}
            table[room] |= tops & set(ROOM_BOXES) - {room}
    return table


def imported(path: Path) -> Iterator[str]:
    """Dotted names of what a module imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def without_detours(room: str, imports: set[str], table: Mapping[str, set[str]]) -> set[str]:
    """The imports of a room that do not follow from those of the rooms it imports."""

    def below(other: str) -> set[str]:
        return table[other].union(*map(below, table[other]))

    return imports - set().union(*map(below, imports))


def sentence_of(room: str) -> str:
    """The sentence that states what belongs into a room."""
    if room == SCRIPTS:
        return (
            "One task each, read top to bottom: parse_args, main, a few verbs of the rooms below."
        )
    docstring = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text("utf-8")))
    return docstring.replace(":func:", "").replace("`", "")


def box(at: Box, title: str, text: str) -> str:
    """A rounded box with a bold title over wrapped text."""
    x, y, width, height = at
    # small sans-serif letters are about 5.7 units wide
    lines = textwrap.wrap(text, int((width - 20) / 5.7))
    rows = "".join(
        f'<text x="{x + 12}" y="{y + 42 + 16 * k}">{escape(line)}</text>'
        for k, line in enumerate(lines)
    )
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7"/>'
        f'<text class="title" x="{x + 12}" y="{y + 23}">{escape(title)}</text>{rows}'
    )


def arrow(start: Box, end: Box, label: str = "") -> str:
    """A line from one box to another, from side to side within a row, else downwards."""
    (x, y, width, height), (to_x, to_y, to_width, to_height) = start, end
    if y == to_y:
        rightwards = x < to_x
        ends = (x + width * rightwards, to_x + to_width * (not rightwards))
        points = (ends[0], y + height / 2, ends[1], to_y + to_height / 2)
    else:
        middle, to_middle = x + width / 2, to_x + to_width / 2
        points = (
            min(max(to_middle, x + 20), x + width - 20),
            y + height,
            min(max(middle, to_x + 20), to_x + to_width - 20),
            to_y,
        )
    a, b, c, d = (round(value, 1) for value in points)
    line = f'<line x1="{a}" y1="{b}" x2="{c}" y2="{d}" marker-end="url(#head)"/>'
    if not label:
        return line
    # above the line within a row; near the start of long lines, which pass others further down
    lift, share = (8, 0.5) if b == d else (-4, 0.3 if to_y - y > 200 else 0.5)
    at = f'x="{a + share * (c - a):.1f}" y="{b + share * (d - b) - lift:.1f}"'
    return f'{line}<text class="label" {at}>{label}</text>'


def svg(width: int, height: int, parts: list[str], note: str) -> str:
    """One drawing, on white so that it can be read on a dark page, too."""
    body = "\n".join(parts)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"
viewBox="0 0 {width} {height}">
<style>
rect {{ fill: #eef3f8; stroke: #33658a; stroke-width: 1.2 }}
rect.page {{ fill: white; stroke: none }}
text {{ fill: #24323d; font: 12px Helvetica, Arial, sans-serif }}
text.title {{ font-weight: bold; font-size: 13px }}
text.label {{ text-anchor: middle; font-size: 11px; font-style: italic }}
text.label {{ paint-order: stroke; stroke: white; stroke-width: 4px }}
text.note {{ font-size: 11px; fill: #5b6b77 }}
line {{ stroke: #33658a; stroke-width: 1.4 }}
</style>
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"
orient="auto-start-reverse"><path d="M 0 0 L 10 5 L 0 10 z" fill="#33658a"/></marker></defs>
<rect class="page" width="{width}" height="{height}"/>
{body}
<text class="note" x="20" y="{height - 14}">{escape(note)}</text>
</svg>
"""


if __name__ == "__main__":
    main()
