"""Tools, their calls and their results as text. A call reads `name(arguments)`, the arguments as JSON."""

import json
from collections.abc import Mapping
from typing import Any

from .literals import parsed


def as_json(value: object) -> str:
    """JSON in the order of the source, in its own characters."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _loaded(value: object) -> object:
    return parsed(value) if isinstance(value, str) else value


def call_text(call: object) -> str:
    """One call. Arguments that are JSON text stay as they are written: `null` is a value."""
    call = _loaded(call)
    if not isinstance(call, Mapping):
        return call if isinstance(call, str) else as_json(call)
    function = _loaded(call.get("function"))
    inner = function if isinstance(function, Mapping) else call
    name = inner.get("name") or inner.get("tool_name") or (function if isinstance(function, str) else None)
    if not name:
        return as_json(call)
    given: object = next(
        (inner[key] for key in ("arguments", "parameters", "input", "args") if inner.get(key) is not None), {}
    )
    arguments = _loaded(given)
    return f"{name}({arguments if isinstance(arguments, str) else as_json(arguments)})"


def calls_text(calls: object) -> str:
    """The calls of a message, one a line; a single call may stand without a list."""
    calls = _loaded(calls)
    return "\n".join(map(call_text, calls if isinstance(calls, list | tuple) else [calls])) if calls else ""


def result_text(content: object) -> str:
    """The result of a call: text, or JSON for anything else; `[{"content": ...}]` is its contents."""
    loaded = _loaded(content)
    if isinstance(loaded, list) and loaded and all(isinstance(i, Mapping) and "content" in i for i in loaded):
        return "\n".join(result_text(item["content"]) for item in loaded)
    if isinstance(loaded, list) and loaded and all(isinstance(i, Mapping) and i.get("type") == "text" for i in loaded):
        return "\n".join(str(item.get("text") or "") for item in loaded)
    return content if isinstance(content, str) else "" if content is None else as_json(content)


def tools_text(tools: object, title: str) -> str:
    """Tool definitions under a title, as a list of names, parameters and descriptions; other text stays as it is."""
    tools = _loaded(tools)
    if not tools:
        return ""
    return "\n".join([title, *map(_tool_text, tools if isinstance(tools, list) else [tools])])


def _tool_text(tool: object) -> str:
    tool = _loaded(tool)
    inner: Any = tool.get("function", tool) if isinstance(tool, Mapping) else {}
    if not isinstance(inner, Mapping) or not inner.get("name"):
        return tool if isinstance(tool, str) else as_json(tool)
    parameters = _loaded(inner.get("parameters") or inner.get("input_schema")) or {}
    properties = parameters.get("properties", parameters) if isinstance(parameters, Mapping) else {}
    names = [key for key, value in properties.items() if value is not None] if isinstance(properties, Mapping) else []
    return f"- {inner['name']}({', '.join(names)}): {inner.get('description') or ''}".rstrip(": ")
