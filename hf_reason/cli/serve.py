"""`serve`: answer over OpenAI's API, with the thought apart from the answer and a budget for each."""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_reason._options import option
from hf_reason.cli.parsing.parser import parse

from .arguments import as_list
from .inputs.engines import ENGINES, make_engine
from .inputs.names import named

if TYPE_CHECKING:
    from hf_reason.serving.settings import ServeSettings

_BACKLOG = 2048  # connections that wait to be accepted


@dataclass
class ServeArguments:
    """Which models are served, where, to whom, and within which limits."""

    model_name_or_path: list[str] = option(
        default_factory=list,
        help="Folders or Hub names of models, each also as name=folder. With engine openai: names on the servers, "
        "also as name=its name there; default: all.",
    )
    adapters: list[str] = option(
        default_factory=list, help="Adapters on them, as name=folder (model:name=folder with several models)."
    )
    engine: str = option(
        "generate",
        "What generates: generate, continuous (transformers' continuous batching), or openai (servers elsewhere).",
        choices=ENGINES,
    )
    engine_url: list[str] = option(
        default_factory=list,
        help="With engine openai: where the servers' APIs begin, such as http://127.0.0.1:8001/v1. Their key is in "
        "the environment variable HF_REASON_ENGINE_API_KEY.",
    )
    engine_tokenizer: str | None = option(
        None, "With engine openai: folder or Hub name of the model's tokenizer, which renders the prompts."
    )
    engine_revision: str | None = option(
        None, "With engine openai: a name for the weights on the servers. Without it no results are cached."
    )
    engine_timeout: float = option(120.0, "With engine openai: seconds of a server's silence that are a failure.")
    replicas: int = option(1, "Copies of the server; more than one run on Ray Serve (extra ray).")
    max_replicas: int | None = option(None, "Start more copies under load, up to so many. Default: replicas.")
    upscale_delay: float = option(30.0, "With max_replicas: seconds of load after which a copy is started.")
    downscale_delay: float = option(600.0, "With max_replicas: seconds of less load after which it is taken away.")
    host: str = option("127.0.0.1", "Address to listen on. Others than loopback need api_keys.")
    port: int = option(8000, "Port; 0 for any that is free.")
    output_dir: str = option("outputs/serve", "Folder of the feedback, the experiments and the cached results.")
    cache: str | None = option(
        None, "Where results are cached: a file, redis://..., or none. Default: cache.db in output_dir."
    )
    cache_max_bytes: int = option(1_073_741_824, "Largest cache file.")
    isolate_keys: bool = option(False, "Give each API key cached results of its own.")
    api_keys: str | None = option(None, "File of API keys (hashes). With it, every request needs a key.")
    new_api_key: str | None = option(
        None, "Make a key for the client of this name, add it to api_keys, print it, and end."
    )
    max_thought_tokens: int = option(1024, "Longest thought in tokens; a longer one is closed by force.")
    max_answer_tokens: int = option(512, "Longest answer in tokens.")
    max_prompt_tokens: int = option(8192, "Longest prompt in tokens.")
    max_choices: int = option(16, "Most chains of a request (n).")
    max_batch_size: int | None = option(
        None, "Chains of a model that are generated at once. Default: 16; with engine openai 256, of all models."
    )
    admission_interval: int = option(16, "Tokens after which waiting chains may join a running batch.")
    max_queue_size: int = option(256, "Chains that may wait; more are refused (429).")
    max_body_bytes: int = option(1_000_000, "Largest request.")
    max_requests_per_minute: int | None = option(None, "Of each API key, or each address. Default: no limit.")
    request_timeout: float = option(600.0, "Seconds after which a request fails (504).")
    chunk_interval: float = option(0.05, "Seconds in which a stream's tokens are gathered into a chunk; 0: one each.")
    shutdown_timeout: float = option(30.0, "Seconds that running requests get when the server stops.")
    log_texts: bool = option(False, "Let the log hold what users and models wrote.")
    dtype: str = option("auto", "Type of the weights: auto, float32, bfloat16, ...")
    trust_remote_code: bool = option(False, "Run code that comes with the model.")
    use_cpu: bool = option(False, "Do not use an accelerator.")

    def __post_init__(self) -> None:
        self.model_name_or_path, self.adapters = as_list(self.model_name_or_path), as_list(self.adapters)
        self.engine_url = as_list(self.engine_url)
        self._check_engine()
        if not 0 <= self.port < 65536:
            raise ValueError(f"port is {self.port}; ports are 0 to 65535.")
        for name in ("max_batch_size", "admission_interval", "max_prompt_tokens", "cache_max_bytes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.replicas < 1 or (self.max_replicas or self.replicas) < self.replicas:
            raise ValueError(f"replicas is {self.replicas}; it must be at least 1, and max_replicas at least that.")
        for name in ("upscale_delay", "downscale_delay", "shutdown_timeout"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative.")

    def _check_engine(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"there is no engine {self.engine}. There are {', '.join(ENGINES)}.")
        elsewhere = self.engine == "openai"
        given = [name for name in ("engine_url", "engine_tokenizer", "engine_revision") if getattr(self, name)]
        if given and not elsewhere:
            raise ValueError(f"{given[0]} is for engine openai: add --engine openai, or leave it out.")
        if elsewhere and not self.engine_url and self.new_api_key is None:
            raise ValueError("engine openai needs --engine_url: one server's or several.")
        if elsewhere and self.adapters:
            raise ValueError("adapters belong to the servers with engine openai: load them there.")
        if not elsewhere and not self.model_name_or_path and self.new_api_key is None:
            raise ValueError("there is no model. Give --model_name_or_path: one or several.")
        if not self.engine_timeout > 0:
            raise ValueError(f"engine_timeout is {self.engine_timeout}; it must be above 0.")

    def settings(self) -> "ServeSettings":
        """The API's part.

        Raises:
            ValueError: for a limit below 1.
        """
        from dataclasses import fields

        from hf_reason.serving.settings import ServeSettings

        return ServeSettings(**{field.name: getattr(self, field.name) for field in fields(ServeSettings)})

    @property
    def keys_file(self) -> str:
        """Where a new key is added."""
        return self.api_keys or str(Path(self.output_dir, "api_keys.json"))


CLASSES = (ServeArguments,)


def main(argv: Sequence[str] | None = None, sock: socket.socket | None = None) -> None:
    """Serve until SIGINT or SIGTERM; `argv` are the arguments after the command's name.

    Args:
        argv: See above.
        sock: Has its address already; default: one on `host` and `port`.
    """
    args: ServeArguments
    (args,) = parse("serve", CLASSES, argv)
    if args.new_api_key is not None:
        from hf_reason.serving.keys import add_key

        key = add_key(args.keys_file, args.new_api_key)
        print(f"The key of {args.new_api_key}, which is not shown again: {key}")
        print(f"Its hash is in {args.keys_file}: serve with --api_keys {args.keys_file}")
        return
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ValueError(f"serve needs the package {error.name}: pip install 'hf_reason[serve]'.") from error
    from hf_reason.serving.keys import ApiKeys, check_bind

    keys = ApiKeys.read(args.api_keys) if args.api_keys else ApiKeys()
    check_bind(args.host, keys)
    with sock or bind(args.host, args.port) as sock:  # before the models are read for minutes
        if max(args.replicas, args.max_replicas or 1) > 1:
            from .replicas import serve_replicas

            serve_replicas(args, make_app, sock)
        else:
            _run(args, make_app(args, keys), sock)


def bind(host: str, port: int) -> socket.socket:
    """A socket with an address that does not listen yet: who connects is refused, and a balancer asks another server.

    Raises:
        ValueError: if the address is taken or cannot be had.
    """
    sock = None
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if os.name == "posix":  # as socket.create_server does; elsewhere it would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in host:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        return sock
    except (OSError, OverflowError) as error:
        if sock is not None:
            sock.close()
        raise _cannot_listen(host, port, error) from error


def listen(sock: socket.socket) -> socket.socket:
    """Let clients connect; who does so before the server runs waits.

    Raises:
        ValueError: if another server has begun to listen at the address.
    """
    try:
        sock.listen(_BACKLOG)
        return sock
    except OSError as error:
        host, port = sock.getsockname()[:2]
        raise _cannot_listen(host, port, error) from error


def _cannot_listen(host: str, port: int, error: Exception) -> ValueError:
    reason = getattr(error, "strerror", None) or str(error)
    return ValueError(f"cannot listen on {host}:{port}: {reason}. Give another --port or --host.")


def make_app(args: ServeArguments, keys: Any) -> Any:
    """The app with its engine.

    Raises:
        ValueError: for a model or a server that cannot be served.
    """
    from hf_reason.serving.app import create_app
    from hf_reason.serving.cache import open_cache
    from hf_reason.serving.experiments import Experiments
    from hf_reason.serving.feedback import FeedbackStore
    from hf_reason.serving.metrics import Metrics

    settings = args.settings()
    folder = Path(args.output_dir)
    place = None if args.cache == "none" else args.cache or str(folder / "cache.db")
    folder.mkdir(parents=True, exist_ok=True)
    metrics = Metrics()
    return create_app(
        make_engine(args, metrics),
        settings,
        keys=keys,
        cache=open_cache(place, max_bytes=args.cache_max_bytes),
        metrics=metrics,
        feedback=FeedbackStore(folder / "feedback.db"),
        experiments=Experiments(folder / "experiments.db"),
    )


def _run(args: ServeArguments, app: Any, sock: socket.socket) -> None:
    import uvicorn

    from hf_reason.serving.graceful import GracefulServer
    from hf_reason.serving.logs import log_to

    log_to(texts=args.log_texts, level="WARNING" if sys.stderr.isatty() else "INFO")
    timeout = max(1, round(args.shutdown_timeout)) if args.shutdown_timeout else 0
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=timeout)
    server = GracefulServer(config)
    # uvicorn stops gracefully on either and then raises the signal again for these handlers: both are a normal end
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    host, port = listen(sock).getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    names = ", ".join([named(given)[0] for given in args.model_name_or_path] or args.engine_url)
    print(f"Serving {names} at http://{shown}:{port}/v1 (Ctrl-C stops it)")
    print(f"The page: http://{shown}:{port}/", flush=True)
    server.run(sockets=[sock])
