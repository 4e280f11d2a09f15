"""A fake teacher on loopback that answers chat requests as real servers do, failures included."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BREAK = "break"  # the connection ends in the middle of an answer


class FakeTeacher:
    """Speaks /v1/models and /v1/chat/completions over records.

    The seed of a request decides what is written: 0 a right chain, 1 a wrong answer, 2 a wrong step, 3 a thought that
    was cut (modulo 4). `failures` are answered first: `(status, body, headers)` each, or `BREAK`.
    """

    def __init__(self, records):
        self.by_question = {record["context"]: record for record in records}
        self.failures, self.requests, self.keys, self.times = [], [], [], []
        self.lock, self.delay = threading.Lock(), 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def reply(self, code, answer, headers=None, cut=0):
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(code)
                for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body[:-cut] if cut else body)

            def do_GET(self):
                listed = {"data": [{"id": "/models/big-teacher"}]}
                self.reply(200, listed) if self.path == "/v1/models" else self.reply(404, {})

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.requests.append(request)
                    outer.keys.append(self.headers["Authorization"])
                    outer.times.append(time.monotonic())
                    failure = outer.failures.pop(0) if outer.failures else None
                time.sleep(outer.delay)
                try:
                    if failure == BREAK:
                        self.reply(200, outer.answer(request), cut=20)
                    elif failure is not None:
                        self.reply(*failure)
                    else:
                        self.reply(200, outer.answer(request))
                except OSError:
                    pass  # the client was killed

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def answer(self, request):
        record, kind = self.by_question[request["messages"][-1]["content"]], request["seed"] % 4
        steps = [*record["steps"], *(["核对:1+1=3"] if kind == 2 else [])]
        thought = "\n".join(f"步骤{number}:{step}" for number, step in enumerate(steps, start=1))
        answer = "-12345" if kind == 1 else record["answer"]
        message = {"role": "assistant", "content": f"答案是{answer}。", "reasoning_content": thought}
        if kind == 3:
            message = {"role": "assistant", "content": None, "reasoning_content": thought[:8]}
        choice = {"index": 0, "message": message, "finish_reason": "length" if kind == 3 else "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": len(thought)}
        return {"object": "chat.completion", "choices": [choice], "usage": usage}

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
