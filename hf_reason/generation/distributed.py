"""The few collective operations that generation and evaluation need; with one process they do nothing."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def _launched() -> bool:
    started = torch.distributed.is_available() and torch.distributed.is_initialized()
    return started or int(os.environ.get("WORLD_SIZE", "1")) > 1


def process_index_and_count(device: torch.device) -> tuple[int, int]:
    """This process's number and how many there are; joins the process group of the launch if need be."""
    if not _launched():
        return 0, 1
    from accelerate import PartialState

    # Without `cpu` accelerate ignores a launch on a machine without an accelerator.
    state = PartialState(cpu=device.type == "cpu")
    return state.process_index, state.num_processes


def gather(items: list[Any]) -> list[Any]:
    """The items of all processes, one process after the other, on every process."""
    if not _launched():
        return items
    from accelerate.utils import gather_object

    return list(gather_object(items))


def once(work: Callable[[], T], device: torch.device) -> T:
    """Do `work` on the first process and give its result, or its exception, to all.

    Scoring may depend on the clock (time limits of the verifier); done once, all processes decide alike.
    """
    rank, count = process_index_and_count(device)
    if count == 1:
        return work()
    from accelerate.utils import broadcast_object_list

    box: list[Any] = [None, None]
    if rank == 0:
        try:
            box[0] = work()
        except Exception as error:
            box[1] = error
    broadcast_object_list(box, from_process=0)
    if box[1] is not None:
        raise box[1]
    return box[0]
