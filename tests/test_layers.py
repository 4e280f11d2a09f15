"""The architecture holds: who may import whom, no circles, and no file or function that has grown too large.

The imports are read from the syntax trees, so those inside functions and under `TYPE_CHECKING` count as well. Two
things do not: importing `a.b.c` also runs `a/__init__.py` and `a/b/__init__.py`, which is no dependency on what they
export; and `hf_reason/__init__.py` itself, which names everything. A name that a package exports lazily (by
`lazy_exports`) counts as an import of the module that defines it.
"""

import ast
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hf_reason"
# Lowest first; folders on one line may not import each other, except as in SIDEWAYS. "" is hf_reason/*.py.
ORDER = (
    ("",),
    ("answers",),
    ("data",),
    ("text",),
    ("losses", "generation", "models"),
    ("teachers", "evaluation"),
    ("rewards",),
    ("traces",),
    ("augment",),
    ("trainers",),
    ("compression",),
    ("serving",),
    ("cli",),
)
SIDEWAYS = {("models", "losses"), ("generation", "models")}
LEVEL = {folder: level for level, folders in enumerate(ORDER) for folder in folders}
MAX_LINES, MAX_COMPLEXITY = 300, 15


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _modules() -> dict[str, Path]:
    return {_module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_modules()[module].read_text(encoding="utf-8"))


@cache
def _lazy(package: str) -> dict[str, str]:
    """Name -> module of what a package exports by `lazy_exports`."""
    for node in ast.walk(_tree(package)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "lazy_exports":
            return {name: package + module for name, module in ast.literal_eval(node.args[1]).items()}
    return {}


def _defined(module: str, name: str) -> str:
    """The module that `from module import name` leads to."""
    if f"{module}.{name}" in _modules():
        return f"{module}.{name}"
    found = _lazy(module).get(name)
    return module if found is None else _defined(found, name)


def _imports(module: str) -> set[str]:
    """The modules of hf_reason that a module imports, anywhere in it."""
    package = module if _modules()[module].name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in _modules()}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            if base in _modules():
                found |= {_defined(base, alias.name) for alias in node.names}
    return found - {module}


@cache
def _graph() -> dict[str, set[str]]:
    return {module: _imports(module) for module in _modules() if module != "hf_reason"}


def _folder(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else ""


def test_every_folder_has_its_place():
    assert {_folder(module) for module in _graph()} == set(LEVEL)


def test_no_import_upwards():
    wrong = []
    for module, imported in _graph().items():
        for other in sorted(imported):
            here, there = _folder(module), _folder(other)
            if here != there and LEVEL[there] >= LEVEL[here] and (here, there) not in SIDEWAYS:
                wrong.append(f"{module} imports {other}")
    assert not wrong, "\n".join(["These imports run upwards or sideways:", *wrong])


def test_no_circles():
    """Also between modules of one folder."""
    done: set[str] = set()
    circles = []

    def visit(module: str, way: list[str]) -> None:
        if module in way:
            circles.append(" -> ".join([*way[way.index(module) :], module]))
            return
        if module in done:
            return
        for other in sorted(_graph().get(module, ())):
            visit(other, [*way, module])
        done.add(module)

    for module in _graph():
        visit(module, [])
    assert not circles, "\n".join(["These modules import each other:", *circles])


def test_no_large_files():
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _modules().values()}
    large = [f"{path.relative_to(PACKAGE.parent)}: {lines}" for path, lines in sizes.items() if lines > MAX_LINES]
    assert not large, "\n".join([f"Split by idea, at most {MAX_LINES} lines a file:", *large])


def test_no_complex_functions():
    """A function that has to be complex says so: `# noqa: C901 (why)`."""
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("ruff is not installed")
    limit = f"lint.mccabe.max-complexity={MAX_COMPLEXITY}"
    command = [ruff, "check", "--isolated", "--no-cache", "--select", "C901", "--config", limit]
    done = subprocess.run([*command, "--output-format", "concise", str(PACKAGE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for path in _modules().values() for line in path.read_text(encoding="utf-8").splitlines()]
    assert not [line for line in lines if "noqa: C901" in line and "(" not in line.split("noqa: C901")[1]]


def test_the_reader_of_imports_sees_them_all():
    """Imports in functions, under TYPE_CHECKING, relative ones and lazy names lead to the module that is meant."""
    assert "hf_reason.models.loar.model" in _imports("hf_reason.teachers.loading")  # in a function, lazy, through two
    assert "hf_reason.text.spans" in _imports("hf_reason.losses.weights")
    assert "hf_reason.models.layer_selection" in _imports("hf_reason.models.long_context")  # relative
    assert _defined("hf_reason.teachers", "TopKCache") == "hf_reason.teachers.cache"
    assert _defined("hf_reason.models", "long_context") == "hf_reason.models.long_context"
