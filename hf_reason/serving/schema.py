"""What the API reads: the requests, checked by pydantic. Unknown parameters are errors, for they would do nothing."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_EFFORT = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
# -1: as many as the server allows
_TOKENS = Annotated[int, Field(ge=-1, le=10_000_000)]
_INT64 = 2**63


class Strict(BaseModel):
    """Numbers are finite, texts are Unicode, and no field is ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _unicode(cls, value: Any) -> Any:
        check_unicode(value)
        return value


def check_unicode(value: Any) -> None:
    """Refuse halves of surrogate pairs, which JSON can write and no tokenizer can read.

    Raises:
        ValueError: for the first of them.
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str) and not item.isascii():
            try:
                item.encode()
            except UnicodeEncodeError:
                raise ValueError("a text holds half of a surrogate pair, which is no character") from None
        elif isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list):
            waiting += item


class TextPart(BaseModel):
    """A part of a message; there are only texts."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A turn. Fields that clients send back with an assistant's turn (its thought, its steps) are not read."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart] | None = None

    @field_validator("content")
    @classmethod
    def _one_text(cls, value: Any) -> Any:
        return "".join(part.text for part in value) if isinstance(value, list) else value

    def turn(self) -> dict[str, str]:
        """As templates read it."""
        return {"role": "system" if self.role == "developer" else self.role, "content": str(self.content or "")}


class Reasoning(Strict):
    """OpenRouter's and OpenAI's form."""

    max_tokens: _TOKENS | None = None
    effort: _EFFORT | None = None
    enabled: bool | None = None


class Thinking(Strict):
    """Anthropic's, DeepSeek's and GLM's form."""

    type: Literal["enabled", "disabled", "auto", "adaptive"]
    budget_tokens: _TOKENS | None = None


class TemplateArguments(Strict):
    """vLLM's, SGLang's and transformers serve's form."""

    enable_thinking: bool | None = None
    thinking: bool | None = None
    thinking_budget: _TOKENS | None = None


class StreamOptions(Strict):
    """What else a stream has."""

    include_usage: bool = False


class ResponseFormat(Strict):
    """Only text is written."""

    type: Literal["text"]


class Metadata(BaseModel):
    """OpenAI's labels of a request, at most 16. Only `reference_answer` is read; the others are the client's own."""

    model_config = ConfigDict(extra="allow")
    reference_answer: str | None = Field(None, max_length=512, description="The right answer; no model sees it.")

    @model_validator(mode="after")
    def _labels(self) -> "Metadata":
        others = self.model_extra or {}
        if len(others) > 15 or not all(isinstance(text, str) and len(text) <= 512 for text in others.values()):
            raise ValueError("at most 16 labels, each a text of at most 512 characters")
        return self


class ChatRequest(Strict):
    """A request of `/v1/chat/completions`."""

    model: str | None = Field(None, description="Name of a model of `/v1/models`. Default: the first.")
    messages: list[Message] = Field(min_length=1, max_length=1000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, le=10_000_000, description="Thought and answer together.")
    max_completion_tokens: int | None = Field(None, ge=1, le=10_000_000, description="The same.")
    max_answer_tokens: int | None = Field(None, ge=1, le=10_000_000, description="Of the answer.")
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0, le=10_000_000)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    seed: int | None = Field(None, ge=-_INT64, lt=_INT64)
    n: int = Field(1, ge=1, le=128, description="Chains.")
    vote: bool = Field(False, description="The most frequent answer of the n chains comes first.")
    stop: str | list[str] | None = Field(None, description="At most 4 texts that end the answer.")
    logprobs: bool = Field(False, description="Of the answer's tokens.")
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    user: str | None = Field(None, max_length=512, description="Who asks; keeps an experiment's version.")
    task: str = Field("", max_length=10_000, description="What is asked of the reasoner, beside the last message.")
    domain: str = Field("", max_length=100, description="Whose instruction template is used.")
    metadata: Metadata | None = None
    check_steps: bool = Field(False, description="Say of each step and equation whether it holds.")
    experiment: bool = Field(True, description="false: the named model answers, also while an experiment runs on it.")

    max_thinking_tokens: _TOKENS | None = None
    thinking_budget: _TOKENS | None = None
    thinking_token_budget: _TOKENS | None = None
    reasoning: Reasoning | None = None
    reasoning_effort: _EFFORT | None = None
    thinking: Thinking | None = None
    enable_thinking: bool | None = None
    chat_template_kwargs: TemplateArguments | None = None

    @field_validator("frequency_penalty", "presence_penalty", mode="before")
    @classmethod
    def _none_is_zero(cls, value: Any) -> Any:
        return 0.0 if value is None else value

    @field_validator("n", mode="before")
    @classmethod
    def _none_is_one(cls, value: Any) -> Any:
        return 1 if value is None else value

    @field_validator("stream", "vote", "logprobs", "check_steps", mode="before")
    @classmethod
    def _none_is_false(cls, value: Any) -> Any:
        return False if value is None else value

    @field_validator("experiment", mode="before")
    @classmethod
    def _none_is_true(cls, value: Any) -> Any:
        return True if value is None else value

    @field_validator("stop")
    @classmethod
    def _stops(cls, value: Any) -> Any:
        words = [value] if isinstance(value, str) else value or []
        if len(words) > 4 or any(not 0 < len(word) <= 256 for word in words):
            raise ValueError("at most 4 texts of 1 to 256 characters")
        return words or None

    @model_validator(mode="after")
    def _together(self) -> "ChatRequest":
        last = self.messages[-1].turn()
        if last["role"] != "user" or not last["content"].strip():
            raise ValueError("the last message has to be the user's and to have a text")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens are the same limit, and differ: send one of them")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream: true")
        if self.n > 1 and self.temperature == 0:
            raise ValueError(f"n={self.n} without sampling gives equal chains: set a temperature above 0, or n: 1")
        if self.vote and self.n < 2:
            raise ValueError("vote compares several chains: set n to 2 or more")
        if self.vote and self.stream:
            raise ValueError("a vote is known when all chains have ended: set stream: false")
        return self

    @property
    def reference(self) -> str:
        """The answer that is known to be right; empty if none is."""
        return (self.metadata.reference_answer or "").strip() if self.metadata is not None else ""

    @property
    def problem(self) -> str:
        """What the user has said, for the check of the steps."""
        said = [turn["content"] for turn in (message.turn() for message in self.messages) if turn["role"] == "user"]
        return "\n".join([*said, self.task])

    @property
    def limit(self) -> int | None:
        """Most tokens of thought and answer together."""
        return self.max_tokens if self.max_tokens is not None else self.max_completion_tokens
