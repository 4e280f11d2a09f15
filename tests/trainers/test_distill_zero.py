"""Distillation under ZeRO on two CPU processes (pain 14); needs the extra `deepspeed`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ON_TWO_PROCESSES

TESTS = Path(__file__).parents[1]
SCRIPT = """
import json, os, sys
from tiny import tiny_qwen2, tiny_trainer
from hf_reason.data.record import make_record
from hf_reason.data.synthetic.word_problems import generate_word_problems
from hf_reason.text import render, train_tokenizer
from hf_reason.trainers import DistillKLConfig, DistillKLTrainer

folder, stage, tied = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "tied"
rows = [make_record(r["context"], r["steps"], r["answer"], domain="math") for r in generate_word_problems(60)]
tokenizer = train_tokenizer([text for row in rows for text in render(row).values()], vocab_size=420)
# no small parameter stays whole, so that a missing gather shows
zero = {"stage": stage, "stage3_param_persistence_threshold": 0}
plain = {"zero_allow_untested_optimizer": True, "gradient_clipping": 0.0}  # DeepSpeed would clip at 1
auto = {name: "auto" for name in ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")}
settings = {
    "max_steps": 3, "per_device_train_batch_size": 4 if stage else 8, "path_weight": 1.0, "max_grad_norm": 0.0,
    "optim": "sgd", "train_sampling_strategy": "sequential",
    "deepspeed": {"zero_optimization": zero, **auto, **plain} if stage else None,
}
padded = {"vocab_size": len(tokenizer) + 8, "tie_word_embeddings": tied}
wide = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3}

def model(seed, **sizes):
    return tiny_qwen2(tokenizer, seed=seed, **padded, **sizes)

teacher = {"teacher_model": model(1, **wide), "teacher_tokenizer": tokenizer}
student = model(0)
trainer = tiny_trainer(DistillKLTrainer, DistillKLConfig, folder, student, tokenizer, rows, None, teacher, **settings)
trainer.train()
if trainer.accelerator.is_main_process:
    curve = [[row[name] for name in ("loss", "kl", "path")] for row in trainer.state.log_history if "loss" in row]
    print("CURVE", json.dumps([type(trainer.teacher.model).__name__, curve]))
sys.stdout.flush()
os._exit(0)  # an interpreter that ends while the group's threads run may abort after all the work is done
"""


def _run(tmp_path, *arguments, launcher=()):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    command = [sys.executable, *launcher, str(script), str(tmp_path / "out"), *arguments]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("CURVE"))[6:])


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["2", "3"])
@pytest.mark.parametrize("heads", ["tied", "untied"])
def test_sharded_student_and_teacher_train_as_one_process_does(tmp_path, stage, heads):
    pytest.importorskip("deepspeed")
    engine, curve = _run(tmp_path, stage, heads, launcher=ON_TWO_PROCESSES)
    plain, expected = _run(tmp_path, "0", heads)
    assert (engine, plain) == ("DeepSpeedEngine", "Qwen2ForCausalLM")
    for step, reference in zip(curve, expected, strict=True):
        assert step == pytest.approx(reference, abs=1e-5)
