"""A server with OpenAI's API and a model that knows one text by heart, behaving as vLLM, SGLang or llama.cpp do."""

import asyncio
import json
from typing import Any

THOUGHT = "步骤1:增加后:12+25=37个\n步骤2:减少后:37-8=29个\n"
ANSWER = "29个"


class FakeUpstream:
    """An ASGI app.

    Args:
        kind: "vllm", "sglang" or "llamacpp".
        field: Where a chat has the thought: "reasoning", "reasoning_content", or "" for tags in the content.
        opens: Whether the chat template opens the thought.
        thinks: Whether the model writes a thought at all.
        extras: Whether there is more than `/v1` (`/tokenize`, `/apply-template`).
    """

    def __init__(
        self, kind: str, field: str = "reasoning", opens: bool = True, thinks: bool = True, extras: bool = True
    ):
        self.kind, self.field, self.opens, self.thinks, self.extras = kind, field, opens, thinks, extras
        self.names, self.requests, self.keys, self.failures = ["r1"], [], [], []
        self.thought, self.answer = THOUGHT, ANSWER
        self.pause = 0.0  # seconds between two events
        self.gone = 0  # clients that left a stream

    # the model: a character is a token, tags are one

    def render(self, messages: list[dict[str, str]], thinking: bool = True) -> str:
        text = "".join(f"<|{turn['role']}|>{turn['content'].split('</think>')[-1]}" for turn in messages)
        return text + "<|assistant|>" + ("<think>\n" if self.opens else "")

    def tokens(self, prompt: str) -> list[str]:
        """What the model writes behind a prompt."""
        written = prompt.rpartition("<|assistant|>")[2]
        if not self.thinks and "</think>" not in written:
            return list(self.answer)
        if "</think>" in written:
            rest = f"\n\n{self.answer}"
            done = written.rpartition("</think>")[2]
            return list(rest[len(done) :] if rest.startswith(done) else rest)
        whole = ["<think>", "\n", *self.thought, "</think>", *f"\n\n{self.answer}"]
        while written and whole:
            written = written.removeprefix(whole.pop(0))
        return whole

    # HTTP

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            return await send({"type": "lifespan.shutdown.complete"})
        body, more = b"", scope["method"] == "POST"
        while more:
            event = await receive()
            body, more = body + event["body"], event.get("more_body", False)
        request = json.loads(body) if body else {}
        self.keys.append(dict(scope["headers"]).get(b"authorization", b"").decode())
        path = scope["path"]
        if path == "/v1/models":
            listed = [{"id": name, "object": "model", "created": 5, "owned_by": self.kind} for name in self.names]
            return await self.reply(send, 200, {"object": "list", "data": listed})
        if self.extras and self.kind == "vllm" and path in ("/tokenize", "/detokenize"):
            if path == "/detokenize":
                return await self.reply(send, 200, {"prompt": "".join(map(chr, request["tokens"]))})
            text = request.get("prompt")
            text = self.render(request["messages"]) if text is None else text.replace("</think>", "x")
            return await self.reply(send, 200, {"tokens": [ord(one) for one in text]})
        if self.extras and self.kind == "llamacpp" and path == "/apply-template":
            return await self.reply(send, 200, {"prompt": self.render(request["messages"])})
        if path not in ("/v1/chat/completions", "/v1/completions"):
            return await self.reply(send, 404, {"error": {"message": "no such path", "code": 404}})
        self.requests.append((path, request))
        failure = self.failures.pop(0) if self.failures else None
        if isinstance(failure, tuple):
            return await self.reply(send, *failure)
        await self.stream(path, request, receive, send, failure)

    async def reply(self, send: Any, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        found = [(name.encode(), text.encode()) for name, text in (headers or {}).items()]
        await send({"type": "http.response.start", "status": status, "headers": found})
        await send({"type": "http.response.body", "body": data})

    async def stream(self, path: str, request: dict[str, Any], receive: Any, send: Any, failure: Any) -> None:
        chat = path.endswith("chat/completions")
        prompt = request.get("prompt") or self.chat_prompt(request)
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
        )
        in_thought = chat and bool(self.field) and "</think>" not in prompt.rpartition("<|assistant|>")[2]
        tokens, written, count, finish, stopped = self.tokens(prompt), "", 0, "stop", None
        stops, sent = request.get("stop") or [], 0
        for token in tokens:
            count += 1
            if failure is not None and count == 6:
                if failure == "hang":
                    await receive()
                    self.gone += 1
                    return
                bad = b"data: {\n\n" if failure == "garbage" else b""
                return await send({"type": "http.response.body", "body": bad})
            written += token
            stopped = next((word for word in stops if word in written), None)
            whole = written[: written.index(stopped)] if stopped else written
            held = max((n for word in stops for n in range(len(word)) if whole.endswith(word[:n])), default=0)
            shown = whole[sent : len(whole) if stopped else len(whole) - held]
            sent += len(shown)
            shown = shown.replace("<think>", "") if in_thought else shown
            ends_thought = in_thought and "</think>" in shown
            for text, thought in (
                (shown.partition("</think>")[0], in_thought),
                (shown.partition("</think>")[2], False),
            ):
                if text:
                    await self.send(send, chat, text, thought, request, count)
            in_thought = in_thought and not ends_thought
            if stopped or count == request["max_tokens"]:
                finish = "stop" if stopped else "length"
                break
            await asyncio.sleep(self.pause)
        last: dict[str, Any] = {"index": 0, "finish_reason": finish, **({"delta": {}} if chat else {"text": ""})}
        if self.kind == "vllm":
            last["stop_reason"] = stopped
        if self.kind == "sglang":
            last["matched_stop"] = stopped or (7 if finish == "stop" else None)
        usage = {"prompt_tokens": len(prompt), "completion_tokens": count}
        lines = [{"choices": [last]}, *([{"choices": [], "usage": usage}] if request.get("stream_options") else [])]
        data = "".join(f"data: {json.dumps(line)}\n\n" for line in lines) + "data: [DONE]\n\n"
        await send({"type": "http.response.body", "body": data.encode()})

    def chat_prompt(self, request: dict[str, Any]) -> str:
        messages = request["messages"]
        if messages[-1]["role"] != "assistant":
            return self.render(messages)
        assert request.get("continue_final_message") and not request.get("add_generation_prompt", True)
        return self.render(messages[:-1]) + messages[-1]["content"]

    async def send(self, send: Any, chat: bool, text: str, thought: bool, request: dict[str, Any], count: int) -> None:
        logprobs = None
        if request.get("logprobs") is not None:
            row = {"token": text, "logprob": -0.5, "top_logprobs": [{"token": text, "logprob": -0.5}]}
            plain = {"tokens": [text], "token_logprobs": [-0.5], "top_logprobs": [{text: -0.5}]}
            logprobs = {"content": [row]} if chat else plain
        part = {"delta": {self.field if thought else "content": text}} if chat else {"text": text}
        event: dict[str, Any] = {"choices": [{"index": 0, **part, "finish_reason": None, "logprobs": logprobs}]}
        if (request.get("stream_options") or {}).get("continuous_usage_stats"):
            event["usage"] = {"prompt_tokens": 1, "completion_tokens": count}
        data = f": alive\n\ndata: {json.dumps(event)}\n\n"
        await send({"type": "http.response.body", "body": data.encode(), "more_body": True})
