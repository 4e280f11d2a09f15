"""Repositories that try to run code on the machine of whoever loads them; a file (the canary) shows that it ran."""

import base64
import io
import json
import pickle
from pathlib import Path
from typing import Any


class _Payload:
    """Unpickled, it makes a file."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.mkdir, (self.canary,)


def pickled(canary: str) -> bytes:
    """A plain pickle that runs code."""
    return pickle.dumps(_Payload(canary))


def torch_file(canary: str) -> bytes:
    """The same as `torch.save` writes it."""
    import torch

    buffer = io.BytesIO()
    torch.save({"weight": _Payload(canary)}, buffer)
    return buffer.getvalue()


def module(canary: str, *names: str) -> bytes:
    """A Python module that runs code when it is imported, with classes of these names."""
    classes = "\n".join(f"class {name}:\n    pass" for name in names)
    return f"import os\nos.makedirs({canary!r}, exist_ok=True)\n{classes}\n".encode()


JINJA_WAYS = (
    "{{ cycler.__init__.__globals__.os.mkdir(%r) }}",
    "{{ self.__init__.__globals__.__builtins__.__import__('os').mkdir(%r) }}",
    "{{ namespace.__init__.__globals__['__builtins__']['open'](%r, 'w') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() | map(attribute='__init__') | list }}%s",
    "{{ ('%%s' | format(messages)).format.__self__.__class__ }}{{ lipsum.__globals__['os'].mkdir(%r) }}",
    "{{ raise_exception.__globals__['os'].mkdir(%r) }}",
    "{{ strftime_now.__globals__['__builtins__']['__import__']('os').mkdir(%r) }}",
)
YAML_WAYS = (
    "math: !!python/object/apply:os.mkdir [%r]\n",
    "math: !!python/object/new:os.mkdir [%r]\n",
    "!!python/object/apply:os.mkdir [%r]\n",
    "math: !!python/name:os.mkdir\nx: %r\n",
    "math: !!python/module:os\nx: %r\n",
)


def repositories(files: dict[str, bytes], canary: str, good: str) -> dict[str, dict[str, bytes]]:
    """Name -> files of hostile models, made of the files of a good one.

    Args:
        files: The good model's.
        canary: What is made if code runs.
        good: Name of the good model, the base of adapters.
    """
    config = json.loads(files["config.json"])
    tokens = json.loads(files["tokenizer_config.json"])
    weightless = {name: content for name, content in files.items() if name != "model.safetensors"}
    names = ("EvilConfig", "EvilModel", "EvilTokenizer")
    auto = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel", "AutoModel": "evil.EvilModel"}
    evil = module(canary, *names)

    def changed(name: str, content: dict[str, Any], **more: bytes) -> dict[str, bytes]:
        return {**files, name: json.dumps(content).encode(), **{key.replace("__", "."): v for key, v in more.items()}}

    found = {
        "pickled": {**weightless, "pytorch_model.bin": torch_file(canary)},
        "plain_pickle": {**weightless, "pytorch_model.bin": pickled(canary)},
        "sharded": {
            **weightless,
            "pytorch_model-00001-of-00001.bin": torch_file(canary),
            "pytorch_model.bin.index.json": json.dumps(
                {"metadata": {}, "weight_map": {"lm_head.weight": "pytorch_model-00001-of-00001.bin"}}
            ).encode(),
        },
        "own_type": changed("config.json", {**config, "model_type": "evil", "auto_map": auto}, evil__py=evil),
        "known_type": changed("config.json", {**config, "auto_map": auto}, evil__py=evil),
        "other_repository": changed(
            "config.json",
            {**config, "model_type": "evil", "auto_map": {k: f"tester/known_type--{v}" for k, v in auto.items()}},
        ),
        "tokenizer": changed(
            "tokenizer_config.json",
            {
                **tokens,
                "tokenizer_class": "EvilTokenizer",
                "auto_map": {"AutoTokenizer": ["evil.EvilTokenizer", None]},
            },
            evil__py=evil,
        ),
        "generation": {**files, "custom_generate/generate.py": evil, "custom_generate/requirements.txt": b"evil\n"},
        "kernel": changed("config.json", {**config, "attn_implementation": "tester/kernel:attention"}),
        "instructions": {**files, "instructions.yaml": (YAML_WAYS[0] % canary).encode()},
        "quantizer": {
            **weightless,
            "quantize_config.json": b'{"bits": 4, "group_size": 32, "quant_method": "gptq"}',
            "gptq_model-4bit-32g.bin": torch_file(canary),
            "pytorch_model.bin": torch_file(canary),
        },
        "loar": {**files, "loar_config.json": b'{"auto_map": {"x": "evil.EvilModel"}}', "loar.bin": pickled(canary)},
    }
    for number, way in enumerate(JINJA_WAYS):
        plain = {key: value for key, value in tokens.items() if key != "chat_template"}
        found[f"template{number}"] = {
            **changed("tokenizer_config.json", plain),
            "chat_template.jinja": (way % canary).encode() + b"{% for m in messages %}{{ m.content }}{% endfor %}",
        }
    adapter = {"peft_type": "LORA", "base_model_name_or_path": good, "r": 2, "target_modules": ["q_proj"]}
    own = {"auto_mapping": {"base_model_class": "EvilModel", "parent_library": "evil"}}
    tokenizer = {name: content for name, content in files.items() if "token" in name or "template" in name}
    for name, more in (
        ("adapter", {}),
        ("adapter_library", own),
        ("adapter_megatron", {"megatron_config": {"x": 1}, "megatron_core": "evil"}),
        ("adapter_hostile_base", {"base_model_name_or_path": "tester/own_type"}),
    ):
        found[name] = {
            **tokenizer,
            "adapter_config.json": json.dumps({**adapter, **more}).encode(),
            "adapter_model.bin": torch_file(canary),
            "evil.py": evil,
        }
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their relative names."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def upload(hub: Any, repo_id: str, files: dict[str, bytes], kind: str = "model") -> None:
    """Put files of any name into a repository of the test Hub, past the client, which would refuse some."""
    hub.store.create(kind, repo_id)
    lines = [{"key": "header", "value": {"summary": "upload"}}]
    lines += [
        {"key": "file", "value": {"path": path, "content": base64.b64encode(content).decode()}}
        for path, content in files.items()
    ]
    hub.store.repo(kind, repo_id).add_commit(hub.store, "main", lines)
