"""An HTTP server on loopback that lists models, notes what it is asked, and fails when it is told to."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BREAK = "break"  # the connection ends in the middle of an answer


class LoopbackServer:
    """Speaks GET /v1/models; a POST is answered by `answer(request)`, a dictionary.

    `failures` come first: `(status, body)`, `(status, body, headers)` each, or `BREAK`.
    """

    def __init__(self, *models):
        self.listed = [{"id": model} for model in models]
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
                self.reply(200, {"data": outer.listed}) if self.path == "/v1/models" else self.reply(404, {})

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.requests.append(request)
                    outer.keys.append(self.headers["Authorization"])
                    outer.times.append(time.monotonic())
                    failure = outer.failures.pop(0) if outer.failures else None
                time.sleep(outer.delay)
                try:
                    if failure is None or failure == BREAK:
                        self.reply(200, outer.answer(request), cut=0 if failure is None else 20)
                    else:
                        self.reply(*failure)
                except OSError:
                    pass  # the client was killed

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def answer(self, request):
        raise NotImplementedError

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
