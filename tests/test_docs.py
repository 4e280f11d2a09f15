"""README and docs against the code: links, commands, options, length and words."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from hf_reason.cli.circling.arguments import SECTIONS
from hf_reason.cli.parsing.commands import COMMANDS
from hf_reason.cli.stages.sections import STAGES

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "README.zh.md")
PAGES = [
    *(ROOT / name for name in (*READMES, "CHANGELOG.md", "CONTRIBUTING.md", "model_cards/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "hf_reason").glob("**/README.md")),
]
# Words that a reader of this field would stumble over; code and rows of renames are left out.
WORDS = (
    r"mend(?:s|ed|ing)?",
    r"shares?",
    r"is none",
    r"takes",
    r"what it took",
    r"goes on",
    r"went on",
    r"going on",
    r"lies in",
    r"lies beside",
    r"lie in",
)
# Options of other programs that the documents name.
FOREIGN = {
    "--chat-template-kwargs",  # llama.cpp
    "--continuous-batching",  # transformers serve
    "--max-logprobs",  # vLLM
    "--no-enable-prefix-caching",
    "--nproc_per_node",  # torchrun
    "--standalone",
}
LAUNCH = {"--num_processes", "--config_file", "--accelerate_config"}
GENERAL = {"--help", "--help_all", "--config", "--version", "--expected_world_size"}


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


def shell_lines(page: Path) -> list[list[str]]:
    """The commands of the shell blocks, without comments, as words."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def commands(page: Path) -> list[list[str]]:
    """The words after `hf-reason` of each command in a shell block or in a code span that names an option."""
    spans = [shlex.split(span) for span in re.findall(r"`(hf-reason [^`\n]*)`", text_of(page)) if "--" in span]
    return [words[1:] for words in (*shell_lines(page), *spans) if words[0] == "hf-reason"]


def options(command: str) -> set[str]:
    found = {f"--{name}" for name in COMMANDS[command].fields()}
    if command == "compress":  # its sections have the options of their commands
        found |= {f"--{stage}.{name}" for stage in STAGES for name in COMMANDS[stage].fields()}
    if command == "circle":
        found |= {f"--{section}.{name}" for section in SECTIONS for name in COMMANDS[section].fields()}
    return found


def known_options() -> set[str]:
    return {name for command in COMMANDS for name in options(command)} | LAUNCH | GENERAL


def prose(page: Path) -> str:
    """The text without code and without the table rows of names."""
    text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE), re.M)
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"\w+://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} does not exist"
        if anchor:
            assert anchor in anchors(file), f"{target}: no such heading; there are {sorted(anchors(file))}"


@pytest.mark.parametrize("name", READMES)
def test_readme_is_short(name: str) -> None:
    assert len(text_of(ROOT / name).splitlines()) < 200


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_words_are_those_of_the_field(page: Path) -> None:
    found = re.findall(rf"[^.\n]*\b(?:{'|'.join(WORDS)})\b[^.\n]*", prose(page), re.IGNORECASE)
    assert not found, found


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_no_place_of_a_machine_is_named(page: Path) -> None:
    assert not re.search(r"/(?:work|root|home|tmp|Users)/", text_of(page))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_exists_with_its_options(page: Path) -> None:
    for words in commands(page):
        if words[0].startswith("-") or words[0] == "COMMAND":
            continue
        command, given = words[0], {word.split("=")[0] for word in words[1:] if word.startswith("--")}
        assert command in COMMANDS, f"hf-reason {command}"
        allowed = options(command) | GENERAL | (LAUNCH if COMMANDS[command].launches else set())
        assert given <= allowed, f"hf-reason {command} has no {', '.join(sorted(given - allowed))}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_option_in_the_text_exists(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        text = "\n".join(line for line in text_of(page).splitlines() if not line.startswith("|"))
    else:
        text = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    given: set[str] = set()
    for span in re.findall(r"`([^`\n]+)`", text):
        # the options of benches and of errors that are quoted are checked elsewhere, or are examples of mistakes
        if not re.match(r"(?:python|torchrun) |there is no |--dataset was", span):
            given |= set(re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", span))
    assert given <= known_options() | FOREIGN, sorted(given - known_options() - FOREIGN)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "demo"])
def test_options_of_a_page_are_those_of_its_command(command: str) -> None:
    """In tables whose first column is headed "option", every name is an argument of the page's command."""
    page, names, inside = ROOT / "docs" / f"{command}.md", set(COMMANDS[command].fields()), False
    for line in text_of(page).splitlines():
        if not line.startswith("|"):
            inside = False
        elif line.startswith("| option |"):
            inside = True
        elif inside:
            column = re.sub(r"\([^)]*\)", "", line.split("|")[1])  # in brackets: other values
            for span in re.findall(r"`([^`]+)`", column):
                name = re.match(r"-{0,2}(\w+)", span)
                assert name and name.group(1) in names, f"{page_id(page)}: {span} is no argument of {command}"


def test_every_command_has_a_page_that_the_index_names() -> None:
    index = text_of(ROOT / "docs" / "README.md")
    for name in COMMANDS:
        assert (ROOT / "docs" / f"{name}.md").is_file() and f"({name}.md)" in index, name
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


def test_scripts_configs_and_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for script in re.findall(r"(?<![\w/-])(?:recipes|docs)/[\w/.-]+\.(?:py|yaml)", text_of(page)):
            assert (ROOT / script).is_file(), f"{page_id(page)}: {script}"
        for target in re.findall(r"(?:`|^)make ([a-z-]+)", text_of(page), re.MULTILINE):
            assert target in targets, f"{page_id(page)}: make {target}"


def test_benches_have_the_options_of_their_commands() -> None:
    common = ROOT / "recipes" / "bench" / "common.py"
    shared = common.read_text() if common.is_file() else ""
    for page in PAGES:
        flat = re.sub(r"\s+", " ", text_of(page))
        for script, arguments in re.findall(r"python (recipes/bench/\w+\.py)([^`]*)`", flat):
            source = (ROOT / script).read_text() + shared
            for option in re.findall(r"--(\w+)", arguments):
                # an option of argparse, a field of the bench's dataclass, or one of the command that it runs
                found = re.search(rf"--{option}\b|\b{option}:", source)
                found = found or any(f"--{option}" in options(name) for name in ("sft", "quantize"))
                assert found, f"{page_id(page)}: {script} --{option}"


def test_layouts_and_filters_are_those_of_the_code() -> None:
    from hf_reason.data.clean.filters import FILTER_NAMES
    from hf_reason.data.read.layouts import ADAPTERS

    page = text_of(ROOT / "docs" / "prepare.md")
    rows = page.split("| `--schema` |")[1].split("\n\n")[0].splitlines()[2:]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])} == set(ADAPTERS)
    rows = page.split("## Filters")[1].split("\n\n")[2].splitlines()[2:]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])} == set(FILTER_NAMES)
    for name, words in zip(READMES, ("layouts", "种格式"), strict=True):
        counts = re.findall(rf"(\d+) {{0,1}}{words}", text_of(ROOT / name))
        assert counts and set(counts) == {str(len(ADAPTERS))}


def test_every_renamed_argument_is_in_the_changelog() -> None:
    """What `@renamed` and the command line's table of old names say is in the CHANGELOG's table, with the new name."""
    from hf_reason.cli.parsing.names import _RENAMED

    pairs = {(old, news[0]) for old, news in _RENAMED.items()}
    for file in (ROOT / "hf_reason").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "renamed":
                pairs |= {(word.arg, str(word.value.value).split(",")[0]) for word in node.keywords}  # type: ignore[attr-defined]
    table = text_of(ROOT / "CHANGELOG.md").split("### Renamed")[1].split("\n### ")[0]
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| ") and "---" not in row]
    for old, new in pairs:
        there = any(
            re.search(rf"\b{old}\b", row[2]) and re.search(rf"\b{new}\b", row[3]) for row in rows if len(row) == 5
        )
        assert there, f"CHANGELOG.md does not say that {old} became {new}"


def test_modules_that_moved_are_where_the_changelog_says() -> None:
    section = text_of(ROOT / "CHANGELOG.md").split("### Moved")[1].split("\n## ")[0]
    for row in [line.split("|") for line in section.splitlines() if line.startswith("| `hf_reason")]:
        for span in re.findall(r"`(hf_reason[^`]*)`", row[2]):
            names = re.match(r"([\w.]+?)\.?(?:\{(.*)\}|\*)?$", span)
            assert names, span
            old = re.search(r"\{(.*)\}", row[1])
            last = (names.group(2) or (old.group(1) if old and span.endswith("*") else "")).split(", ")
            for name in last:
                path = ROOT / "/".join([*names.group(1).split("."), *([name] if name else [])])
                assert path.is_dir() or path.with_suffix(".py").is_file(), f"{span}: {path.name}"


def test_both_readmes_have_the_same_code() -> None:
    english, chinese = (ROOT / name for name in READMES)
    assert shell_lines(english) == shell_lines(chinese)
    for one, other in zip(blocks(english, "python"), blocks(chinese, "python"), strict=True):
        assert [re.sub(r"  # .*", "", line) for line in one.splitlines()] == [
            re.sub(r"  # .*", "", line) for line in other.splitlines()
        ]
    figures = r"\d+\.\d+%|\d\.\d+x"
    assert set(re.findall(r"\d+\.\d+%", text_of(english))) == set(re.findall(r"\d+\.\d+%", text_of(chinese))), figures


def test_figures_of_the_readme_are_in_the_docs() -> None:
    """A percentage or a factor in the README's table of results is in the page that its row links."""
    section = text_of(ROOT / "README.md").split("## What was measured")[1].split("\n## ")[0]
    for line in section.splitlines():
        if "](docs/" not in line or not line.startswith("|"):
            continue
        (page,) = re.findall(r"\]\(docs/([\w-]+\.md)", line)
        there = text_of(ROOT / "docs" / page)
        for figure in re.findall(r"\d+\.\d+%|\d+\.\d+x|\d,\d{3}", line):
            number = figure.rstrip("%x")
            assert re.search(rf"\b{re.escape(number)}", there), f"{page} has no {figure}"


def test_figures_of_the_claims_are_in_the_pages_that_they_link() -> None:
    for line in text_of(ROOT / "docs" / "claims.md").splitlines():
        cells = line.split("|")
        if len(cells) != 6 or "---" in line:
            continue
        there = "".join(text_of(ROOT / "docs" / name) for name in set(re.findall(r"\]\(([\w-]+\.md)", line)))
        for number in re.findall(r"\d+\.\d+(?=%|x)", cells[3]):
            assert re.search(rf"\b{re.escape(number)}", there), (
                f"{cells[1].strip()}: {number} is on no page that is linked"
            )


def test_contributing_names_the_folders_that_there_are() -> None:
    package, page = ROOT / "hf_reason", text_of(ROOT / "CONTRIBUTING.md")
    table = page.split("| in `hf_reason/` | purpose |")[1].split("\n\n")[0]
    named = {span for row in table.splitlines() if row for span in re.findall(r"`([^`]+)`", row.split("|")[1])}
    for name in named:
        assert (package / name).is_dir() or (package / f"{name}.py").is_file(), name
    folders = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").is_file()}
    folders |= {f"data/{path.name}/" for path in (package / "data").iterdir() if (path / "__init__.py").is_file()}
    assert folders <= named, folders - named
    assert {path.stem for path in package.glob("_*.py")} - {"__init__"} <= named
    for path in re.findall(r"`((?:hf_reason|tests|recipes)/[\w/.]+)`", page):
        assert (ROOT / path).exists(), path
