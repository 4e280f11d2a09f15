"""A training that is told to end by SIGTERM writes a checkpoint first."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback

from hf_reason._signals import Terminated, handling

logger = logging.getLogger(__name__)


class _SaveAndStop(TrainerCallback):
    """Saves at the end of the step in which a process was told to end, and stops all of them there."""

    def __init__(self) -> None:
        self.told = self.stopped = False

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.stopped or not self._any_was_told(args):
            return
        self.stopped = True
        control.should_save = control.should_training_stop = True
        control.should_evaluate = False  # there are seconds left

    def _any_was_told(self, args: Any) -> bool:
        # a signal reaches the processes in different steps
        if args.world_size == 1:
            return self.told
        import torch
        import torch.distributed as distributed

        flag = torch.tensor(float(self.told), device=args.device)
        distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag.item())


@contextmanager
def saving_when_terminated(trainer: Any) -> Iterator[None]:
    """Inside, SIGTERM ends the training with a checkpoint after the step that is running.

    Not with `enable_jit_checkpoint`, transformers' own way, which also saves inside of a step.

    Raises:
        Terminated: when the training has stopped that way.
    """
    if trainer.args.enable_jit_checkpoint:
        yield
        return
    callback = _SaveAndStop()

    def tell(*_: Any) -> None:
        if not callback.told:
            logger.warning("SIGTERM: the training ends after this step, with a checkpoint.")
        callback.told = True

    trainer.add_callback(callback)
    try:
        with handling(tell):
            yield
    finally:
        trainer.remove_callback(callback)
    if callback.stopped or callback.told:
        raise Terminated
