"""A page for each command, from what `--help` shows."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

import typer

from evoconn_cli.app import app
from tools.reference.markdown import code, prose, table

NOTE = "<!-- Written by `make docs` from the code. Do not edit. -->\n\n"


class Option(NamedTuple):
    """What `--help` says of an option or an argument."""

    names: str
    default: str
    required: bool
    doc: str


def command_pages() -> dict[str, str]:
    """Returns the text of a page for each command, and of the page that lists them, by their paths in docs/."""
    group: Any = typer.main.get_command(app)
    pages = {f"commands/{name}.md": _command_page(name, command) for name, command in _visible(group)}
    return {"commands/index.md": _index_page(group), **pages}


def _visible(group: Any) -> list[tuple[str, Any]]:
    return [(name, command) for name, command in group.commands.items() if not command.hidden]


def _index_page(group: Any) -> str:
    commands = [(f"[`evoconn {name}`]({name}.md)", prose(_summary(c))) for name, c in _visible(group)]
    return (
        f"{NOTE}# Commands\n\n{prose(_summary(group))}\n\n{table(('command', 'what it does'), commands)}\n"
        f"`evoconn COMMAND --help` shows what these pages say. Without a command there are:\n\n"
        f"{_options_table(_options(group, 'evoconn'))}\n"
        f"`evoconn --install-completion` has the TAB key complete commands, options, the names of tasks, strategies,\n"
        f"networks and presets, and run directories.\n"
    )


def _command_page(name: str, command: Any) -> str:
    context = command.make_context(f"evoconn {name}", [], resilient_parsing=True)
    usage = " ".join(["evoconn", name, *command.collect_usage_pieces(context)])
    text = inspect.cleandoc(command.help)
    examples = re.findall(r"^ *(evoconn .+)$", text, re.MULTILINE)
    parts = [
        f"{NOTE}# evoconn {name}\n\n{prose(_summary(command))}\n",
        f"```\n{usage}\n```\n",
        "## Examples\n\n```\n" + "\n".join(examples) + "\n```\n",
    ]
    arguments = _options(command, name, "argument")
    if arguments:
        lines = [
            f"- {code(found.names)}: {prose(found.doc)}{'' if found.required else ' May be left out.'}\n"
            for found in arguments
        ]
        parts.append("## Arguments\n\n" + "".join(lines))
    parts.append("## Options\n\n" + _options_table(_options(command, name)))
    return "\n".join(parts)


def _summary(command: Any) -> str:
    return " ".join(inspect.cleandoc(command.help).partition("\n\n")[0].split())


def _options(command: Any, name: str, kind: str = "option") -> list[Option]:
    context = command.make_context(name, [], resilient_parsing=True)
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
