"""How a chain is begun and continued on a server: what each kind of server offers for it.

| kind | prompt | continued by |
|---|---|---|
| `native` | the server's own | not at all: a server of this project knows budgets |
| `template` | rendered here, from the tokenizer's template | `/completions` |
| `apply-template` | llama.cpp's `/apply-template` | `/completions` |
| `tokenize` | vLLM's `/tokenize` and `/detokenize` | `/completions` |
| `chat` | the server's own | `continue_final_message` (SGLang, vLLM), a prefilled turn (llama.cpp) |
"""

import logging
from dataclasses import dataclass
from typing import Any

from hf_reason.text.chat import mode_options
from hf_reason.text.conversation import answer_of, build_conversation
from hf_reason.text.render import CLOSE_TAG, OPEN_TAG, opened_by_prompt, user_text

from .base import EngineError, Prompt
from .template import ChatTemplate
from .upstream import Upstream

_log = logging.getLogger(__name__)
# Tokens kept for the closing tag where the server cannot be asked; reasoning models need one or two.
_CLOSING = 4
_KNOWS_MORE = ("vllm", "sglang")


@dataclass(frozen=True)
class Dialect:
    """What a server offers.

    Attributes:
        kind: See above.
        owner: Whose server it is, as `/models` says ("vllm", "sglang", "llamacpp", "hf_reason", ...).
        template: Of the kind `template`.
        closing: Tokens of a line break and the closing tag.
    """

    kind: str
    owner: str = ""
    template: ChatTemplate | None = None
    closing: int = _CLOSING

    @property
    def extras(self) -> dict[str, Any]:
        """Parameters beyond OpenAI's that the server knows: counts with each event, and the tags as text."""
        if self.owner not in _KNOWS_MORE:
            return {"stream_options": {"include_usage": True}}
        return {
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            "skip_special_tokens": False,
        }

    def completion(self, prompt: str) -> dict[str, Any]:
        """What a request of `/completions` says about its prompt, which has all special tokens."""
        return {"prompt": prompt, **({"add_special_tokens": False} if self.owner == "vllm" else {})}

    async def prompt(self, upstream: Upstream, model: str, prompt: Prompt) -> str | None:
        """The rendered prompt, the thought not yet opened (or closed, without one); `None` if the server keeps it.

        Raises:
            EngineError: if the server cannot render it.
        """
        if self.kind == "template":
            text = render_here(self.template, prompt)
            bos = self.template.special.get("bos_token", "") if self.template is not None else ""
            return text if self.owner == "vllm" else text.removeprefix(bos)  # others write it themselves
        if self.kind not in ("apply-template", "tokenize"):
            return None
        body = {
            "messages": turns(prompt),
            "add_generation_prompt": True,
            "chat_template_kwargs": mode_options(prompt.thinking),
        }
        try:
            if self.kind == "apply-template":
                text = str((await upstream.ask(f"{upstream.root}/apply-template", body))["prompt"])
            else:
                body |= {"model": model, "add_special_tokens": False}
                ids = (await upstream.ask(f"{upstream.root}/tokenize", body))["tokens"]
                text = str(
                    (await upstream.ask(f"{upstream.root}/detokenize", {"model": model, "tokens": ids}))["prompt"]
                )
        except (LookupError, TypeError) as error:
            raise EngineError(
                "The server behind this one renders no prompt.", status=502, code="upstream_broken"
            ) from error
        return text if prompt.thinking else answering(text)


def render_here(template: ChatTemplate | None, prompt: Prompt) -> str:
    """The prompt as `generate` has it.

    Raises:
        ValueError: for messages that the template refuses.
    """
    return build_conversation(
        prompt.messages,
        template,  # type: ignore[arg-type]
        task=prompt.task,
        domain=prompt.domain,
        instructions=template.instructions if template is not None else {},
        thinking=prompt.thinking,
    )


def answering(prompt: str) -> str:
    """A prompt with a closed, empty thought."""
    opened = opened_by_prompt(prompt)
    return prompt if CLOSE_TAG in opened else prompt + f"{OPEN_TAG}\n\n{CLOSE_TAG}\n\n".removeprefix(opened)


def turns(prompt: Prompt) -> list[dict[str, str]]:
    """The messages as a server reads them that knows no task."""
    messages = [dict(message) for message in prompt.messages]
    for message in messages[:-1]:
        if message["role"] == "assistant":
            message["content"] = answer_of(message["content"])
    messages[-1]["content"] = user_text({"context": messages[-1]["content"], "task": prompt.task})
    return messages


async def find_dialect(upstream: Upstream, model: str, owner: str, template: ChatTemplate | None) -> Dialect:
    """Ask a server what it offers.

    Raises:
        EngineError: if it cannot be reached.
    """
    owner = owner.lower()
    if owner == "hf_reason":
        return Dialect("native", owner)
    if template is not None:
        return Dialect("template", owner, template, await _closing(upstream, model, owner))
    probe = Prompt(({"role": "user", "content": "1+1=?"},))
    for kind in {"llamacpp": ("apply-template",), "vllm": ("tokenize",)}.get(owner, ()):
        try:
            await Dialect(kind, owner).prompt(upstream, model, probe)
        except EngineError as error:
            if error.code == "upstream_unavailable":
                raise
            _log.info("%s has no /%s: chats are continued instead", upstream.url, kind)
        else:
            return Dialect(kind, owner, None, await _closing(upstream, model, owner))
    return Dialect("chat", owner)


async def _closing(upstream: Upstream, model: str, owner: str) -> int:
    """Tokens that close a thought within a line."""
    text = f"\n{CLOSE_TAG}"
    bodies = {
        "vllm": {"model": model, "prompt": text, "add_special_tokens": False},
        "llamacpp": {"content": text, "add_special": False},
    }
    if owner not in bodies:
        return _CLOSING
    try:
        return len((await upstream.ask(f"{upstream.root}/tokenize", bodies[owner]))["tokens"])
    except (EngineError, LookupError, TypeError):
        return _CLOSING
