"""The documentation: generated pages and figures are up to date, and every command line in it can be typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from browser import WAIT, chromium, needs_browser
from command_lines import COMMANDS, check_command_line

from evoconn_cli import __version__
from evoconn_cli.config.fields import walk
from evoconn_cli.config.registry import entries, names
from evoconn_cli.config.schema import CHOSEN_BY_NAME, RunConfig
from tools.reference.figures import MARKED, PAGES, pages_with_figures
from tools.reference.pages import generate_pages, write_pages

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SHOWN = [name for name, command in COMMANDS.items() if not command.hidden]
WRITTEN = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("name", generate_pages())
def test_a_generated_page_is_what_the_code_says(name):
    assert (DOCS / name).read_text() == generate_pages()[name], "write it anew: make docs"


@pytest.mark.parametrize("name", PAGES)
def test_the_figures_of_a_page_are_those_of_the_benchmark(name):
    assert (ROOT / name).read_text() == pages_with_figures()[name], "write them anew: make docs"


def test_every_figure_of_the_benchmark_has_a_place():
    marked = [name for page in PAGES for _, name, _ in MARKED.findall((ROOT / page).read_text())]
    assert set(marked) == {"all", "estimates", "summary", "zoo", "commands"}


def test_writing_the_pages_removes_those_of_commands_that_are_no_more(tmp_path):
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands" / "dance.md").write_text("evoconn dance")
    write_pages(tmp_path)
    assert sorted(path.stem for path in (tmp_path / "commands").iterdir()) == sorted([*SHOWN, "index"])


def test_every_key_of_every_strategy_and_network_is_on_the_page_of_the_configuration():
    page = (DOCS / "configuration.md").read_text()
    keys = {key for key, _, _ in walk(RunConfig())}
    for section, kind in CHOSEN_BY_NAME.items():
        keys |= {key for entry in entries(kind) for key, _, _ in walk(entry.default_config(), f"{section}.")}
    assert {key for key in keys if f"| `{key}` |" not in page} == {"algo.name", "network.name"}
    for name in (*names("strategy"), *names("network")):
        assert re.search(rf"^### (algo|network)\.name={name}$", page, re.MULTILINE)


def test_every_page_is_in_the_navigation_of_the_site():
    text = (ROOT / "mkdocs.yml").read_text()
    listed = re.findall(r"[\w/-]+\.md", str(yaml.safe_load(text)["nav"]))
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


@pytest.mark.slow
@needs_browser
def test_the_site_has_a_search_when_it_is_opened_from_disk_and_fetches_nothing(tmp_path):
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    type_in = """
        const query = document.querySelector("[data-md-component=search-query]");
        query.focus(); query.value = "lesion"; query.dispatchEvent(new Event("keyup", {bubbles: true}))
    """
    for page in ("index.html", "commands/train.html"):
        assert not re.search(r'(src|rel="stylesheet" href)="https?:', (tmp_path / page).read_text())
        with chromium(1000, 800) as browser:
            browser.open(tmp_path / page)
            browser.run(type_in)
            browser.run(WAIT % "document.querySelector('.md-search-result__item a')")
            assert "evaluate.html" in browser.run("return document.querySelector('.md-search-result__list').innerHTML")
            assert browser.errors() == []


def test_the_title_of_a_page_is_its_name_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    named = dict(re.findall(r"^ +- ([\w ]+): ([\w-]+\.md)$", text, re.MULTILINE))
    titles = {page: re.findall(r"^# (.*)$", (DOCS / page).read_text(), re.MULTILINE)[0] for page in named.values()}
    assert len(named) > 15 and titles == {page: name for name, page in named.items()} | {"index.md": "evoconn"}


def test_the_citation_and_the_changelog_are_of_this_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def command_lines() -> list[tuple[str, str]]:
    """Returns (page, command line) for all command lines in code blocks; lines that show usage are left out."""
    found = []
    for path in WRITTEN:
        for block in re.findall(r"^```\w*\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"^(\w+\$|srun|[A-Z_]+=\S+) +", "", line.strip()).partition("   ")[0].partition(" #")[0]
                if line.startswith("evoconn ") and not re.search(r"[\[{(|]|\.\.\. ", line):
                    found.append((path.name, line))
    return found


def test_command_lines_are_found():
    assert len(command_lines()) > 40


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_every_command_line_can_be_typed(page, line):
    variables = {"task": "hopper", "seed": "0", "network": "gru"}
    name, *arguments = shlex.split(re.sub(r"\$(\w+)", lambda found: variables[found[1]], line))[1:]
    if name.startswith("--"):
        assert name in ("--help", "--versions", "--install-completion")
        return
    check_command_line(name, arguments)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    cells = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells), "clear its outputs"
    script = tmp_path / "quickstart.py"
    script.write_text("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    environment = {**os.environ, "MPLBACKEND": "agg"}
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"generation \d+: \d+ \(95 % interval \d+ to \d+\)", ran.stdout), ran.stdout
