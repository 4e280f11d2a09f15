"""`serve --replicas`: the same app and engine as Ray Serve deployments."""

import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from hf_reason._ray import ray_cluster
from hf_reason.serving.keys import ApiKeys

from .inputs.engines import batch_size

# Ray's own limit has to come after the app's, which answers with an error of the API.
_LATER = 30.0
# Ray averages the load over so many seconds, and hears of it three times in them.
_WINDOW = 30.0


def serve_replicas(args: Any, make_app: Callable[[Any, ApiKeys], Any], sock: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM. Replicas that die are started again.

    Args:
        args: `ServeArguments`.
        make_app: Makes the app of a replica, where it runs.
        sock: Has been found free; Ray listens on its address.

    Raises:
        ValueError: if Ray is not installed, or the replicas do not start.
    """
    host, port = sock.getsockname()[:2]
    sock.close()
    with ray_cluster("--replicas") as ray:
        from ray import serve

        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        options = {"host": host, "port": port, "request_timeout_s": args.request_timeout + _LATER}
        serve.start(http_options=options)
        try:
            deployment = _deployment(args, make_app, ray.cluster_resources())
            try:
                serve.run(deployment, name="hf_reason", route_prefix="/")
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:500]
                raise ValueError(f"the replicas do not start: {reason}") from error
            shown = f"[{host}]" if ":" in host else host
            more = f" (up to {args.max_replicas})" if (args.max_replicas or 0) > args.replicas else ""
            copies = f"{args.replicas} replica{'s' if args.replicas > 1 else ''}{more}"
            print(f"Serving {copies} at http://{shown}:{port}/v1 (Ctrl-C stops them)")
            print(f"The page: http://{shown}:{port}/", flush=True)
            ended.wait()
        finally:
            serve.shutdown()


def _deployment(args: Any, make_app: Callable[[Any, ApiKeys], Any], resources: dict[str, float]) -> Any:
    """The app of a replica, which is built where the replica runs."""
    from ray import serve

    most = args.max_replicas or args.replicas

    def build() -> Any:
        from hf_reason.serving.logs import log_to

        log_to(texts=args.log_texts)
        return make_app(args, ApiKeys.read(args.api_keys) if args.api_keys else ApiKeys())

    local = args.engine != "openai"
    gpus = 0.0 if args.use_cpu or not local else min(1.0, resources.get("GPU", 0.0) / most)
    at_once = batch_size(args)
    options: dict[str, Any] = {
        "ray_actor_options": {"num_cpus": min(1.0, resources.get("CPU", 1.0) / most), "num_gpus": gpus},
        # the engine has a queue of its own, which says 429
        "max_ongoing_requests": args.max_queue_size + at_once,
        "graceful_shutdown_timeout_s": args.shutdown_timeout,
        "health_check_period_s": 2,
    }
    if most > args.replicas:
        # delays shorter than the time of which the load is the mean would not count
        window = min(_WINDOW, max(1.0, min(args.upscale_delay, args.downscale_delay)))
        options["autoscaling_config"] = {
            "min_replicas": args.replicas,
            "max_replicas": most,
            "target_ongoing_requests": at_once,
            "upscale_delay_s": args.upscale_delay,
            "downscale_delay_s": args.downscale_delay,
            "look_back_period_s": window,
            "metrics_interval_s": window / 3,
        }
    else:
        options["num_replicas"] = args.replicas
    return serve.deployment(name="reasoner", **options)(serve.ingress(build)()).bind()
