"""A fake teacher server on loopback that answers as vLLM does."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import torch


def local_log_probs(model, sequences):
    with torch.no_grad():
        logits = [model(torch.tensor([list(sequence)])).logits[0, :-1] for sequence in sequences]
    return [row.float().log_softmax(-1).numpy() for row in logits]


class FakeServer:
    """Speaks /models and /completions; `change` edits what would be right, `failures` are answered first."""

    def __init__(self, model):
        self.model, self.lock = model, threading.Lock()
        self.failures, self.requests, self.keys = [], [], []
        self.listed = [{"id": "teacher"}]
        self.read = lambda prompt: prompt
        self.change = lambda entries: entries
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def reply(self, code, answer, **headers):
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(code)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self.reply(200, {"data": outer.listed}) if self.path == "/v1/models" else self.reply(404, {})

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.requests.append(request)
                    outer.keys.append(self.headers["Authorization"])
                    if outer.failures:
                        return self.reply(*outer.failures.pop(0)[:2])
                    self.reply(200, outer.answer(request))

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def answer(self, request):
        prompt, k = self.read(request["prompt"]), request["prompt_logprobs"]
        entries = [None]
        for row, actual in zip(local_log_probs(self.model, [prompt])[0], prompt[1:], strict=True):
            # vLLM: the prompt's own token first, then the k most likely, of which it may be one
            ids = dict.fromkeys([actual, *np.argsort(-row)[:k].tolist()])
            # how many tokens are as likely or more
            ranks = (len(row) - np.searchsorted(np.sort(row), row, side="left")).tolist()
            values = row.tolist()
            entries.append({str(t): {"logprob": values[t], "rank": ranks[t], "decoded_token": f"<{t}>"} for t in ids})
        return {"choices": [{"index": 0, "text": "", "prompt_logprobs": self.change(entries)}]}

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
