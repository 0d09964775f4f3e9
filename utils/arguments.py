"""The command line of every script: spellings of flags, ``--config``, typed settings, errors."""

from __future__ import annotations

import argparse
import difflib
import math
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from utils.errors import UserError
from utils.json_values import value_in

ROOT = Path(__file__).parents[1]
DEMO_STORE = Path("data/demo/store")
_Settings = TypeVar("_Settings")


class _Help(argparse.HelpFormatter):
    """Help formatter that appends a default to each flag, unless empty or already in the text."""

    def _get_help_string(self, action: argparse.Action) -> str:
        default, text = action.default, action.help or ""
        if default in (None, [], argparse.SUPPRESS) or "(default" in text:
            return text
        items = default if isinstance(default, list) else [default]
        return f"{text} (default: {' '.join(map(_portable, items))})"


def _portable(value: Any) -> str:
    """Text of a default, the same on every machine: own files relative to the program."""
    is_own = isinstance(value, Path) and value.is_relative_to(ROOT)
    return str(value.relative_to(ROOT) if is_own else value)


class ScriptParser(argparse.ArgumentParser):
    """``ArgumentParser`` with defaults shown in the help, ``--config`` and one-line errors.

    Booleans accept ``--flag``, ``--flag True`` and ``--flag False``; lists accept ``0 1 2``,
    ``0,1,2`` and ``[0,1,2]``. ``--config file.json`` sets defaults that flags override; files of
    another shape have a ``config_reader``. ``script`` is the file that parses, where its name is
    written somewhere.
    """

    def __init__(self, description: str, epilog: str = "", *, script: str | None = None) -> None:
        super().__init__(
            prog=Path(script).name if script else None,
            description=description,
            epilog=epilog,
            formatter_class=_Help,
            # a flag added later must not change what an abbreviation in somebody's script means
            allow_abbrev=False,
        )
        # "nan" and "inf" are numbers to Python, but no setting of anything here
        self.register("type", float, finite)
        self.config_reader: Callable[[Path], Any] = _read_json
        self.add_argument(
            "--config", type=Path, help="JSON file of settings; flags given beside it win"
        )

    def add_spellings(self, spellings: Mapping[str, Sequence[str]]) -> None:
        """Add further names to existing flags, as users of other projects type them."""
        # argparse has no public way to name an argument once more after it was added
        for known, others in spellings.items():
            action = self._option_string_actions[known]
            action.option_strings = [*action.option_strings, *others]
            self._option_string_actions |= dict.fromkeys(others, action)

    def fill_help(self, defaults: Mapping[str, Any]) -> None:
        """Replace ``{}`` in help texts by defaults that depend on other flags."""
        for action in self._actions:
            if action.dest in defaults and action.help:
                action.help = action.help.replace("{}", _shown(defaults[action.dest]))

    def parse(self, argv: list[str] | None) -> argparse.Namespace:
        """Parse ``argv`` over the defaults of ``--config``, if one is named."""
        # parsed twice: the file sets defaults, so flags given beside it win
        if config := self.parse_known_args(argv)[0].config:
            self.set_defaults(**self._read_config(config))
        return self.parse_args(argv)

    def _read_config(self, path: Path) -> dict[str, Any]:
        settings = self.config_reader(path)
        # the first action of a name takes values; a later one is the --no- form of a boolean
        known = {action.dest: action for action in reversed(self._actions)}
        del known["help"], known["config"]
        if not isinstance(settings, dict):
            raise UserError(f"{path}: a --config file holds one JSON object of settings")
        if unknown := sorted(set(settings) - set(known)):
            raise UserError(f"{path}: unknown settings {', '.join(unknown)}; see --help")
        return {name: self._from_json(known[name], value) for name, value in settings.items()}

    def _from_json(self, action: argparse.Action, value: Any) -> Any:
        """The value a flag would have given, checked the same way."""
        if value is None:
            return value
        items = value if isinstance(value, list) else [value]
        is_list = isinstance(action, ListAction)
        is_wrong = isinstance(value, list) and not is_list
        # True as text would be a number's, a path's or a name's value
        is_wrong |= any(isinstance(item, bool) for item in items) and action.type is not boolean
        if is_wrong or any(isinstance(item, (list, dict)) for item in items):
            kind = "a list of values" if is_list else "one value"
            self.error(f"{action.dest} in --config takes {kind}, not {str(value)[:60]}")
        tokens = [str(item) for item in items] or ["[]"]  # which ListAction reads as empty
        # one word, so that a value that begins with a dash is no flag
        word = f"{action.option_strings[0]}={','.join(tokens)}"
        return getattr(self.parse_known_args([word])[0], action.dest)

    def error(self, message: str) -> None:  # type: ignore[override]
        """Refuse in one line; argparse would print the whole usage before it."""
        raise UserError(f"{message}; {self.prog} --help explains every flag")


def _shown(value: Any) -> str:
    items = value if isinstance(value, list) else [value]
    return " ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in items)


def _read_json(path: Path) -> Any:
    try:
        return value_in(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot read this --config file: {error}") from error


class ListAction(argparse.Action):
    """Collect ``0 1 2``, ``0,1,2`` or ``[0,1,2]`` into one list of the flag's type."""

    def __init__(self, *args: Any, item: type = str, **kwargs: Any) -> None:
        super().__init__(*args, nargs="+", **kwargs)
        self.item = item

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        text = ",".join(values).replace("[", "").replace("]", "")
        tokens = [token.strip().strip("'\"") for token in text.split(",")]
        convert = finite if self.item is float else self.item
        try:
            setattr(namespace, self.dest, [convert(token) for token in tokens if token])
        except ValueError:
            kind = _NUMBERS.get(self.item, self.item.__name__)
            parser.error(f"argument {option}: {text[:60]!r} is not a list of {kind}")


def boolean(text: str) -> bool:
    """Parse ``True``, ``yes``, ``1`` or their opposites, in any case."""
    lowered = text.lower()
    if lowered in ("true", "yes", "1"):
        return True
    if lowered in ("false", "no", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")


def add_flag(group: Any, *names: str, help: str, default: bool = False) -> None:
    """Add a boolean: ``--flag``, ``--flag True``, ``--flag False`` and ``--no-flag``."""
    group.add_argument(
        *names,
        type=boolean,
        nargs="?",
        const=True,
        default=default,
        metavar="True|False",
        help=help,
    )
    # an action of its own: the first one may take a value, --no-flag must not
    negated = [f"--no-{name.removeprefix('--')}" for name in names if name.startswith("--")]
    dest = names[0].removeprefix("--")
    group.add_argument(
        *negated, dest=dest, action="store_const", const=False, help=argparse.SUPPRESS
    )


def add_list(group: Any, *names: str, item: type = str, help: str, **options: Any) -> None:
    """Add a list that accepts ``0 1 2``, ``0,1,2`` and ``[0,1,2]``."""
    group.add_argument(*names, action=ListAction, item=item, help=help, **options)


def finite(text: str) -> float:
    """Parse a number that is neither infinite nor NaN."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def pairs(words: Sequence[str], flag: str, example: str) -> dict[str, tuple[str, ...]]:
    """Values by key of ``KEY=value`` words; one key may have several.

    Values are taken letter by letter: a comma separates only before another ``KEY=``.

    Raises:
        UserError: a word without a key or value.
    """
    values: dict[str, tuple[str, ...]] = {}
    apart = (re.split(r",\s*(?=[^,=]+=)", several) for several in words)
    for word in (word for some in apart for word in some):
        key, _, value = (part.strip() for part in word.partition("="))
        if not key or not value:
            raise UserError(f"{flag} {word}: give {example}")
        values[key] = (*values.get(key, ()), value)
    return values


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a refusal that offers the known word most like this one; "" where none is."""
    by_lower = {one.lower(): one for one in known}
    like = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[like[0]]}?" if like else ""


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def not_negative(text: str) -> float:
    """Parse a finite number of at least 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def count(text: str) -> int:
    """Parse a whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


# how lists of numbers are named where something else is given
_NUMBERS = {
    int: "whole numbers", float: "numbers", positive: "whole numbers from 1 on",
    not_negative: "numbers from 0 on",
}  # fmt: skip


def settings_from(args: argparse.Namespace, kind: type[_Settings]) -> _Settings:
    """Fill the frozen dataclass ``kind`` with the parsed flags that its fields are named after.

    Fields that are dataclasses are groups of flags, filled in the same way.
    """
    # not field.type, which is a string under postponed annotations
    kinds = get_type_hints(kind)
    return kind(
        **{
            field.name: settings_from(args, kinds[field.name])
            if is_dataclass(kinds[field.name])
            else getattr(args, field.name)
            for field in fields(kind)
        }
    )


def by_flag(settings: Any) -> dict[str, Any]:
    """Settings as one flat dictionary by flag name, groups dissolved."""
    values: dict[str, Any] = {}
    for name, value in asdict(settings).items():
        is_group = is_dataclass(getattr(settings, name))
        values |= value if is_group else {name: value}
    return values


def changed(settings: _Settings, **values: Any) -> _Settings:
    """Copy of the settings with other values of some flags, whichever group those belong to.

    Raises:
        TypeError: no group has such a flag.
    """
    own = {name: value for name, value in values.items() if not _group_with(settings, name)}
    groups: dict[str, dict[str, Any]] = {}
    for name in values.keys() - own.keys():
        groups.setdefault(_group_with(settings, name), {})[name] = values[name]
    inner = {group: replace(getattr(settings, group), **new) for group, new in groups.items()}
    return replace(settings, **own, **inner)


def _group_with(settings: Any, flag: str) -> str:
    """Name of the group that has ``flag``; empty for a flag of no group."""
    groups = {f.name: getattr(settings, f.name) for f in fields(settings)}
    return next(
        (
            name
            for name, group in groups.items()
            if is_dataclass(group) and flag in {f.name for f in fields(group)}
        ),
        "",
    )


def command_of(parser: argparse.ArgumentParser, settings: Any, *, leave_out: Sequence[str]) -> str:
    """Command line that reproduces ``settings``, without the flags to ``leave_out``.

    Paths are reduced to their names, so that the same command is written on every machine.
    ``parser`` has the defaults of the script, not those that a ``--config`` has set.
    """
    words = [parser.prog]
    seen = {"help", "config", *leave_out}
    for action in parser._actions:
        if action.dest not in seen:
            words += _words(action, getattr(settings, action.dest))
        seen.add(action.dest)  # the second action of a name is its --no- form
    return shlex.join(words)


def next_command(*words: Any) -> str:
    """The line that offers a command to run next, which can be pasted into a shell."""
    return f"next: {shlex.join(map(str, words))}"


def _words(action: argparse.Action, value: Any) -> Iterator[str]:
    """A flag and its value as typed; nothing for ``None`` or a boolean at its default."""
    flag = next(name for name in action.option_strings if name.startswith("--"))
    if isinstance(value, bool):
        if value != action.default:
            yield from [flag] if value else [flag, "False"]
        return
    if value is None:
        return
    items = value if isinstance(value, (list, tuple)) else [value]
    texts = [_text(item) for item in items] or ["[]"]
    if any(text.startswith("-") for text in texts):  # which would be read as another flag
        yield f"{flag}={','.join(texts)}"
    else:
        yield from (flag, *texts)


def _text(value: Any) -> str:
    """A number without superfluous zeros; of a path, its name."""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, float):
        # :g has six digits, which may be another number
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)
