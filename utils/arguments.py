"""The command line every script shares: spellings, ``--config`` and one-line errors."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from utils.errors import UserError

DEMO_STORE = Path("data/demo/store")


class _Help(argparse.HelpFormatter):
    """Defaults after each flag, where there is one worth showing."""

    def _get_help_string(self, action: argparse.Action) -> str:
        default = action.default
        if default in (None, [], argparse.SUPPRESS):
            return action.help or ""
        shown = " ".join(map(str, default)) if isinstance(default, list) else default
        return f"{action.help} (default: {shown})"


class ScriptParser(argparse.ArgumentParser):
    """``ArgumentParser`` with defaults shown in the help, ``--config`` and one-line errors.

    Booleans accept ``--flag``, ``--flag True`` and ``--flag False``; lists accept ``0 1 2``,
    ``0,1,2`` and ``[0,1,2]``. ``--config file.json`` sets defaults that flags override; files of
    another shape have a ``config_reader``.
    """

    def __init__(self, description: str, epilog: str = "") -> None:
        super().__init__(
            description=description,
            epilog=epilog,
            formatter_class=_Help,
            allow_abbrev=False,
        )
        self.config_reader: Callable[[Path], Any] = _read_json
        self.add_argument(
            "--config", type=Path, help="JSON file of settings; flags given beside it win"
        )

    def add_spellings(self, spellings: Mapping[str, Sequence[str]]) -> None:
        """Further names for flags that are there already, as other projects' users type them."""
        for known, others in spellings.items():
            action = self._option_string_actions[known]
            action.option_strings = [*action.option_strings, *others]
            self._option_string_actions |= dict.fromkeys(others, action)

    def parse(self, argv: list[str] | None) -> argparse.Namespace:
        """Parse ``argv`` over the defaults of ``--config``, if one is named."""
        if config := self.parse_known_args(argv)[0].config:
            self.set_defaults(**self._read_config(config))
        return self.parse_args(argv)

    def _read_config(self, path: Path) -> dict[str, Any]:
        settings = self.config_reader(path)
        # the first action of a name takes values; a later one is the --no- form of a boolean
        known = {action.dest: action for action in reversed(self._actions)}
        if not isinstance(settings, dict):
            raise UserError(f"{path}: a --config file holds one JSON object of settings")
        if unknown := sorted(set(settings) - set(known)):
            raise UserError(f"{path}: unknown settings {', '.join(unknown)}; see --help")
        return {name: self._from_json(known[name], value) for name, value in settings.items()}

    def _from_json(self, action: argparse.Action, value: Any) -> Any:
        """The value a flag would have given, checked the same way."""
        if value is None:
            return value
        tokens = [str(item) for item in value] if isinstance(value, list) else [str(value)]
        tokens = tokens or ["[]"]
        return getattr(self.parse_known_args([action.option_strings[0], *tokens])[0], action.dest)

    def error(self, message: str) -> None:  # type: ignore[override]
        """Refuse in one line; argparse would print the whole usage before it."""
        raise UserError(f"{message}; {self.prog} --help explains every flag")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
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
        try:
            setattr(namespace, self.dest, [self.item(token) for token in tokens if token])
        except ValueError:
            parser.error(f"argument {option}: {text!r} is not a list of {self.item.__name__}")


def boolean(text: str) -> bool:
    """``True``, ``yes``, ``1`` and their opposites, in any case."""
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
    negated = [f"--no-{name.removeprefix('--')}" for name in names if name.startswith("--")]
    dest = names[0].removeprefix("--")
    group.add_argument(
        *negated, dest=dest, action="store_const", const=False, help=argparse.SUPPRESS
    )


def add_list(group: Any, *names: str, item: type = str, help: str, **options: Any) -> None:
    """Add a list that accepts ``0 1 2``, ``0,1,2`` and ``[0,1,2]``."""
    group.add_argument(*names, action=ListAction, item=item, help=help, **options)


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def not_negative(text: str) -> float:
    """A number from 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(text)
    return value


def count(text: str) -> int:
    """A whole number from 0."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value
