"""Ray, where it is asked for: the cluster that RAY_ADDRESS names, or one on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def ray_cluster(what: str) -> Iterator[Any]:
    """Join or start a cluster; yields the module `ray`.

    Args:
        what: What needs it, for the message.

    Raises:
        ValueError: if Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError(f"{what} needs Ray: pip install 'hf_reason[ray]'.") from error
    # RAY_ADDRESS names a cluster of several machines; else there is one here
    if not (cluster := os.environ.get("RAY_ADDRESS")):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to Ray's makers
    # Ray's own ports ask nobody for a key
    here = {} if cluster else {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
    ray.init(address=cluster, log_to_driver=False, logging_level="error", namespace="hf_reason", **here)
    try:
        yield ray
    finally:
        ray.shutdown()
