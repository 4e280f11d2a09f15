"""SIGTERM in a training: a checkpoint after the step, `Terminated`, and the handlers as they were."""

import os
import signal
import threading

import pytest
from datasets import Dataset
from tiny import tiny_qwen2
from transformers import TrainerCallback

from hf_reason._signals import Terminated, handling, terminating
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer
from hf_reason.trainers.resuming import train_or_resume


class _Told(TrainerCallback):
    """Sends SIGTERM to this process in the middle of a step."""

    def __init__(self, step):
        self.step = step

    def on_substep_end(self, args, state, control, **_):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def _trainer(model, tokenizer, records, folder, callbacks=(), **options):
    settings = {"max_steps": 6, "save_strategy": "no", "logging_steps": 1, "report_to": "none", "use_cpu": True}
    settings |= {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 1e-3}
    args = CoTSFTConfig(output_dir=str(folder), **settings | options)
    return CoTSFTTrainer(
        model, args, train_dataset=Dataset.from_list(records), processing_class=tokenizer, callbacks=list(callbacks)
    )


def test_a_checkpoint_after_the_step_and_the_rest_later(tmp_path, tokenizer, records):
    before = signal.getsignal(signal.SIGTERM)
    whole = _trainer(tiny_qwen2(tokenizer), tokenizer, records, tmp_path / "whole")
    train_or_resume(whole)
    told = _trainer(tiny_qwen2(tokenizer), tokenizer, records, tmp_path / "told", [_Told(2)])
    with pytest.raises(Terminated):
        train_or_resume(told)
    assert [path.name for path in (tmp_path / "told").glob("checkpoint-*")] == ["checkpoint-3"]
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = _trainer(tiny_qwen2(tokenizer), tokenizer, records, tmp_path / "told")
    train_or_resume(resumed)

    def losses(trainer):
        return [row["loss"] for row in trainer.state.log_history if "loss" in row]

    assert losses(resumed) == pytest.approx(losses(whole), abs=1e-6)


def test_commands_end_as_after_ctrl_c(capsys):
    from hf_reason.cli import errors

    cleaned = []

    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            cleaned.append(True)

    errors.on_interrupt(lambda: "The same command goes on.")
    assert errors.run(work) == 143
    assert cleaned and capsys.readouterr().err.strip() == "Ended by SIGTERM. The same command goes on."
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_that_is_there_stays_and_a_forked_process_ends():
    caught = []
    with handling(lambda *_: caught.append("outer")), terminating():
        os.kill(os.getpid(), signal.SIGTERM)
        assert caught == ["outer"]
        if (child := os.fork()) == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_other_threads_change_nothing():
    seen = []

    def inside():
        with terminating(), handling(lambda *_: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
