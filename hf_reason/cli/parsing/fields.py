"""The fields of argument classes, read from their source: importing TRL's classes takes seconds, this takes none.

A test holds what is read here against `dataclasses.fields()` of the imported classes.
"""

import ast
import functools
import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Where classes of the libraries are written; their packages export them lazily.
_FOREIGN = {
    ("trl", "SFTConfig"): "trl.trainer.sft_config",
    ("trl", "GRPOConfig"): "trl.trainer.grpo_config",
    ("trl", "ModelConfig"): "trl.trainer.model_config",
    ("transformers", "TrainingArguments"): "transformers.training_args",
}
# Modules that may be imported for a constant that is computed: they need none of the libraries.
_LIGHT = "hf_reason.data."


class _NotConstant(Exception):
    """An expression whose value only the running program knows."""


class Computed(str):
    """The source text of a default that only the running program knows."""


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING = _Missing()


@dataclass(frozen=True)
class FieldView:
    """A field of an argument class.

    Attributes:
        name: Its name.
        owner: `module:Class` that states it.
        annotation: Its type, as written.
        default: Its default; `MISSING` if the argument is required, `Computed` where it is not a constant.
        help: What its metadata says.
        choices: The values it may have, if the source says so.
    """

    name: str
    owner: str
    annotation: str
    default: Any
    help: str
    choices: tuple[Any, ...] | None

    @property
    def is_required(self) -> bool:
        """Whether it must be given; a class that inherits defaults can say so in its help only."""
        return self.default is MISSING or self.help.endswith("(required)")


def fields_of(cls: str) -> dict[str, FieldView]:
    """Name -> field of a dataclass, in the order of `dataclasses.fields`.

    Args:
        cls: `module:Class`.
    """
    module, name = cls.split(":")
    source = _Module.of(module)
    definition = source.classes[name]
    found: dict[str, FieldView] = {}
    for base in reversed(definition.bases):  # as dataclasses do
        if isinstance(base, ast.Name) and (path := source.class_path(base.id)) is not None:
            found |= fields_of(path)
    for statement in definition.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            view = _field(statement, source, cls)
            if view is not None:
                found[view.name] = view
            else:  # a class may fill in an inherited argument itself (`init=False`)
                found.pop(statement.target.id, None)
    return found


def _field(statement: ast.AnnAssign, source: "_Module", owner: str) -> FieldView | None:
    annotation = ast.unparse(statement.annotation)
    if "ClassVar" in annotation:
        return None
    name, value = statement.target.id, statement.value  # type: ignore[union-attr]
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in ("field", "option")):
        default = MISSING if value is None else source.value_or_text(value)
        return FieldView(name, owner, annotation, default, "", None)
    given = {word.arg: word.value for word in value.keywords if word.arg}
    if value.func.id == "option":
        given |= dict(zip(("default", "help"), value.args, strict=False))
        metadata = given
    else:
        metadata = _entries(given.get("metadata"))
    if "init" in given and source.value_or_text(given["init"]) is False:
        return None
    if "default_factory" in given:
        default = _made(given["default_factory"], source)
    else:
        default = source.value_or_text(given["default"]) if "default" in given else MISSING
    choices = source.value_or_text(metadata["choices"]) if "choices" in metadata else None
    text = source.value_or_text(metadata["help"]) if "help" in metadata else ""
    return FieldView(
        name, owner, annotation, default, text, tuple(choices) if isinstance(choices, list | tuple) else None
    )


def _entries(node: ast.expr | None) -> dict[str, ast.expr]:
    if not isinstance(node, ast.Dict):
        return {}
    pairs = zip(node.keys, node.values, strict=True)
    return {key.value: value for key, value in pairs if isinstance(key, ast.Constant)}  # type: ignore[misc]


def _made(factory: ast.expr, source: "_Module") -> Any:
    if isinstance(factory, ast.Name) and factory.id in ("list", "dict"):
        return [] if factory.id == "list" else {}
    return source.value_or_text(factory.body if isinstance(factory, ast.Lambda) else factory)


class _Module:
    """A module's source: its classes, its constants and what it imports by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        path = _file_of(name)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        self.constants: dict[str, ast.expr] = {}
        self.imported: dict[str, tuple[str, str]] = {}
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        self.classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.constants[node.targets[0].id] = node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                self.constants[node.target.id] = node.value
            elif isinstance(node, ast.ImportFrom):
                origin = "." * node.level + (node.module or "")
                origin = importlib.util.resolve_name(origin, package) if node.level else origin
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = (origin, alias.name)

    @classmethod
    @functools.cache
    def of(cls, name: str) -> "_Module":
        return cls(name)

    def class_path(self, name: str) -> str | None:
        """`module:Class` of a class by the name that it has here."""
        if name in self.classes:
            return f"{self.name}:{name}"
        if name not in self.imported:
            return None
        origin, name = self.imported[name]
        return f"{_FOREIGN.get((origin, name), origin)}:{name}"

    def value_or_text(self, node: ast.expr) -> Any:
        try:
            return self.value(node)
        except _NotConstant:
            return Computed(ast.unparse(node))

    def value(self, node: ast.expr) -> Any:
        """The value of an expression of literals and of constants, those of other modules included."""
        match node:
            case ast.Constant():
                return node.value
            case ast.List() | ast.Tuple():
                items: list[Any] = []
                for item in node.elts:
                    if isinstance(item, ast.Starred):
                        items += self.value(item.value)
                    else:
                        items.append(self.value(item))
                return items if isinstance(node, ast.List) else tuple(items)
            case ast.Name() if node.id in self.constants:
                try:
                    return self.value(self.constants[node.id])
                except _NotConstant:
                    if not self.name.startswith(_LIGHT):
                        raise
                    return getattr(importlib.import_module(self.name), node.id)
            case ast.Name() if node.id in self.imported:
                origin, name = self.imported[node.id]
                if not origin.startswith("hf_reason"):
                    raise _NotConstant
                return _Module.of(origin).value(ast.Name(name))
            case ast.Call(func=ast.Name(id="list" | "tuple" | "sorted"), args=[item], keywords=[]):
                return list(self._items(item))
            case ast.UnaryOp(op=ast.USub()):
                return -self.value(node.operand)
            case ast.BinOp(op=ast.Add()):
                return self.value(node.left) + self.value(node.right)
        raise _NotConstant

    def _items(self, node: ast.expr) -> Any:
        """The items of a literal; the keys of a dictionary, whose values need not be literals."""
        if isinstance(node, ast.Name) and node.id in self.constants:
            return self._items(self.constants[node.id])
        if isinstance(node, ast.Dict):
            return [self.value(key) for key in node.keys if key is not None]
        return self.value(node)


def _file_of(module: str) -> Path:
    top, _, rest = module.partition(".")
    spec = importlib.util.find_spec(top)  # of the top package only: a module's own would import its parents
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{top} is not installed.")
    path = Path(spec.origin).parent.joinpath(*filter(None, rest.split(".")))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
