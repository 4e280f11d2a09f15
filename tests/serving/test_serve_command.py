"""`hf-reason serve` as people start it: names, keys, addresses, signals."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys

import pytest
from tiny import save_model, tiny_qwen2

from hf_reason.cli.serve import ServeArguments, bind, listen, main
from hf_reason.serving.keys import ApiKeys, add_key, check_bind, hashed

QUESTION = [{"role": "user", "content": "小明有12个苹果,又买来25个。现在有多少个?"}]


def test_a_key_is_kept_as_a_hash_and_found(tmp_path):
    file = tmp_path / "keys" / "keys.json"
    file.parent.mkdir()
    key, other = add_key(file, "alice"), add_key(file, "bob")
    text = file.read_text()
    assert key not in text and hashed(key) in text and key != other and file.stat().st_mode & 0o077 == 0
    keys = ApiKeys.read(file)
    assert (keys.client(key), keys.client(other), keys.client(key + "x"), keys.client(None)) == (
        "alice",
        "bob",
        None,
        None,
    )
    with pytest.raises(ValueError, match="has a key for alice already"):
        add_key(file, "alice")
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match="no file of API keys"):
        ApiKeys.read(tmp_path / "other.json")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_loopback_needs_no_key(host):
    check_bind(host, ApiKeys())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.2", "example.org"])
def test_other_addresses_need_keys(host):
    with pytest.raises(ValueError, match="there are no API keys"):
        check_bind(host, ApiKeys())
    check_bind(host, ApiKeys({"0" * 64: "alice"}))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "there is no model"),
        ({"port": 70_000}, "ports are 0 to 65535"),
        ({"max_batch_size": 0}, "max_batch_size is 0"),
        ({"shutdown_timeout": -1.0}, "must not be negative"),
    ],
)
def test_impossible_arguments(given, message):
    with pytest.raises(ValueError, match=message):
        ServeArguments(**{"model_name_or_path": ["m"] if given else [], **given})


def test_a_port_in_use_and_a_host_without_keys_are_told_before_a_model_is_read(tmp_path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1:{port}"):
            main(["--model_name_or_path", "nowhere", "--port", str(port)])
    with pytest.raises(ValueError, match="there are no API keys"):
        main(["--model_name_or_path", "nowhere", "--host", "0.0.0.0"])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the second socket gets no address")
def test_who_connects_is_refused_until_the_models_are_loaded_and_then_waits():
    import socket

    with bind("127.0.0.1", 0) as sock, bind("127.0.0.1", sock.getsockname()[1]) as late:
        place = sock.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place)
        listen(sock)
        socket.create_connection(place).close()
        with pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1:{place[1]}"):
            listen(late)  # two that loaded at the same time
        with pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1:{place[1]}"):
            bind(*place)


def test_rate_is_a_bucket_for_each_client():
    from hf_reason.serving.access import RateLimit

    now = [0.0]
    rate = RateLimit(2, lambda: now[0])
    assert [rate.wait("a"), rate.wait("a"), rate.wait("b")] == [0, 0, 0]
    assert rate.wait("a") == pytest.approx(30)
    now[0] = 31
    assert rate.wait("a") == 0 and rate.wait("a") > 0


@pytest.mark.slow
def test_serve_with_an_adapter_and_keys_until_sigterm(tokenizer, tmp_path):
    """One command; names of models; a key is asked for; SIGTERM lets a running stream finish."""
    from peft import LoraConfig, get_peft_model

    base = save_model(tmp_path / "base", tiny_qwen2(tokenizer), tokenizer)
    adapted = get_peft_model(
        tiny_qwen2(tokenizer), LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(tmp_path / "lora")
    key = add_key(tmp_path / "keys.json", "alice")
    command = [sys.executable, "-m", "hf_reason.cli", "serve", "--model_name_or_path", base, "--port", "0"]
    command += ["--adapters", f"finance={tmp_path / 'lora'}", "--api_keys", str(tmp_path / "keys.json")]
    command += ["--output_dir", str(tmp_path / "out"), "--host", "127.0.0.1", "--use_cpu", "true"]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ})
    assert server.stdout is not None
    try:
        line = re.compile(r"Serving base at http://127\.0\.0\.1:(\d+)/v1 \(Ctrl-C stops it\)\n")
        # libraries that are installed may say something first
        found = next((match for said in server.stdout if (match := line.fullmatch(said))), None)
        assert found, (tmp_path / "log").read_text()
        host = http.client.HTTPConnection("127.0.0.1", int(found.group(1)), timeout=60)
        assert server.stdout.readline() == f"The page: http://127.0.0.1:{found.group(1)}/\n"

        def post(body: dict, key: str) -> http.client.HTTPResponse:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
            host.request("POST", "/v1/chat/completions", json.dumps({"messages": QUESTION, **body}), headers)
            return host.getresponse()

        answer = post({}, "sk-wrong")
        assert answer.status == 401 and json.loads(answer.read())["error"]["code"] == "invalid_api_key"
        contents = []
        for name in ("base", "base:finance", "base"):
            answer = post({"model": name, "max_tokens": 40}, key)
            contents.append(json.loads(answer.read())["choices"][0]["message"])
        assert contents[0] == contents[2] != contents[1]
        stream = post({"stream": True, "temperature": 1.0}, key)
        stream.readline()
        server.send_signal(signal.SIGTERM)
        assert stream.read().decode().endswith("data: [DONE]\n\n")
        assert server.wait(30) == 0
    finally:
        server.kill()
    log = (tmp_path / "log").read_text()
    assert "苹果" not in log and key not in log and "Traceback" not in log
    requests = [json.loads(line) for line in log.splitlines() if '"event": "request"' in line]
    assert {request["status"] for request in requests} == {200, 401} and requests[-1]["client"] == "alice"
