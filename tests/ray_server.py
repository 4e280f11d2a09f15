"""`hf-reason serve` on Ray Serve, in front of a stand-in for an inference server."""

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from serving_server import serving
from upstream_server import FakeUpstream

QUESTION = [{"role": "user", "content": "小明有12个苹果,又买来25个,卖出8个。现在有多少个?"}]


@contextlib.contextmanager
def ray_server(folder: Path, *words: str) -> Iterator[tuple["subprocess.Popen[str]", int, FakeUpstream]]:
    """The server, its port and the stand-in with the models r1 and r2; at the end it has to stop by SIGTERM."""
    pytest.importorskip("ray")
    app = FakeUpstream("sglang", field="reasoning_content", opens=False)
    app.names = ["r1", "r2"]
    with serving(app) as url:
        command = [sys.executable, "-m", "hf_reason.cli", "serve", "--port", "0", *words]
        command += ["--engine", "openai", "--engine_revision", "1", "--engine_url", f"{url}/v1"]
        command += ["--output_dir", str(folder / "out")]
        with open(folder / "log", "w") as log:
            server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert server.stdout is not None
        try:
            line = re.compile(r"Serving .* at http://127\.0\.0\.1:(\d+)/v1 \(Ctrl-C stops them\)\n")
            found = next((match for said in server.stdout if (match := line.fullmatch(said))), None)
            assert found, (folder / "log").read_text()
            yield server, int(found.group(1)), app
            server.send_signal(signal.SIGTERM)
            assert server.wait(90) == 0, (folder / "log").read_text()
        finally:
            server.kill()


def replicas_of(server: "subprocess.Popen[str]") -> list[int]:
    """Processes of a server's replicas."""
    found = []
    for process in psutil.Process(server.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any("ServeReplica" in word for word in process.cmdline()):
                found.append(process.pid)
    return found
