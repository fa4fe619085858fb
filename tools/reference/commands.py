"""A page for each command, from what `--help` shows."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

import typer

from evoconn_cli.app import app
from tools.reference.markdown import NOTE, code, prose, table

GROUP: Any = typer.main.get_command(app)


class Option(NamedTuple):
    """What `--help` says of an option or an argument."""

    names: str
    default: str
    required: bool
    doc: str


def command_pages() -> dict[str, str]:
    """Returns the text of a page for each command, and of the page that lists them, by their paths in docs/."""
    pages = {f"commands/{name}.md": _command_page(name, command) for name, command in _visible()}
    return {"commands/index.md": _index_page(), **pages}


def _visible() -> list[tuple[str, Any]]:
    return [(name, command) for name, command in GROUP.commands.items() if not command.hidden]


def _context(command: Any) -> Any:
    """Returns the context that shows the help of a command; `-h` is an option of the whole program."""
    parent = None if command is GROUP else _context(GROUP)
    return command.make_context(command.name, [], parent=parent, resilient_parsing=True)


def _index_page() -> str:
    commands = [(f"[`evoconn {name}`]({name}.md)", prose(_summary(c))) for name, c in _visible()]
    return (
        f"{NOTE}# Commands\n\n{prose(_summary(GROUP))}\n\n{table(('command', 'what it does'), commands)}\n"
        f"`evoconn COMMAND --help` shows what these pages say. Without a command there are:\n\n"
        f"{_options_table(_options(GROUP))}\n"
        f"`evoconn --install-completion` has the TAB key complete commands, options, names such as those of tasks and\n"
        f"presets, keys of the configuration, run directories, and the checkpoints of a run.\n"
    )


def _command_page(name: str, command: Any) -> str:
    usage = " ".join(["evoconn", name, *command.collect_usage_pieces(_context(command))])
    text = inspect.cleandoc(command.help)
    examples = re.findall(r"^ *(evoconn .+)$", text, re.MULTILINE)
    parts = [
        f"{NOTE}# evoconn {name}\n\n{prose(_summary(command))}\n",
        f"```\n{usage}\n```\n",
        "## Examples\n\n```\n" + "\n".join(examples) + "\n```\n",
    ]
    arguments = _options(command, "argument")
    if arguments:
        lines = [
            f"- {code(found.names)}: {prose(found.doc)}{'' if found.required else _optional(found.default)}\n"
            for found in arguments
        ]
        parts.append("## Arguments\n\n" + "".join(lines))
    parts.append("## Options\n\n" + _options_table(_options(command)))
    return "\n".join(parts)


def _optional(default: str) -> str:
    return f" Optional; {default} by default." if default else " Optional."


def _summary(command: Any) -> str:
    return " ".join(inspect.cleandoc(command.help).partition("\n\n")[0].split())


def _options(command: Any, kind: str = "option") -> list[Option]:
    context = _context(command)
    found = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or parameter.param_type_name != kind:
            continue
        names, text = record
        doc, _, extra = text.partition("  [")
        facts = extra.rstrip("]").split("; ") if extra else []
        default = next((fact.removeprefix("default: ") for fact in facts if fact.startswith("default: ")), "")
        bounds = next((fact for fact in facts if re.search(r"x[<>]|[<>]=?x", fact)), "")
        if kind == "argument":
            names = names.partition(" <")[0]  # without the type
        found.append(
            Option(
                names=names.replace(" range>", ">"),
                default=default.strip("()"),
                required="required" in facts,
                doc=f"{doc} {_bounds(bounds)}" if bounds else doc,
            )
        )
    return found


def _bounds(text: str) -> str:
    """Returns a range such as `x>=1` or `0<=x<=9` as a sentence."""
    low, high = re.search(r"x>=(\d+)|(\d+)<=x", text), re.search(r"x<=(\d+)", text)
    words = ([f"at least {low[1] or low[2]}"] if low else []) + ([f"at most {high[1]}"] if high else [])
    return f"{' and '.join(words).capitalize()}."


def _options_table(options: list[Option]) -> str:
    rows = [(code(option.names), prose(option.default), prose(option.doc)) for option in options]
    return table(("option", "default", "meaning"), rows)
