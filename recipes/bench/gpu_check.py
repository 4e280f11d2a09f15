"""What must hold on a GPU: losses in parity with the CPU, a training run in bf16, speed and memory.

    make gpu-check            (the machine's own Python: torch, transformers and accelerate; nothing is downloaded)

The part that trains needs trl, datasets and peft too; without them it is reported as left out, not as passed.
"""

import importlib.util
import sys
import tempfile
from typing import Any

import common
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from hf_reason.data.record import make_record
from hf_reason.data.synthetic.word_problems import generate_word_problems
from hf_reason.text import encode, encode_prompt, render, train_tokenizer


def records(count: int) -> list[Any]:
    return [
        make_record(row["context"], row["steps"], row["answer"], domain="math")
        for row in generate_word_problems(count)
    ]


def fields(tokenizer, width: int = 128, **more: Any) -> dict[str, Any]:
    """Config fields that all models here have."""
    special = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    sizes = {"vocab_size": len(tokenizer), "hidden_size": width, "max_position_embeddings": 2048}
    return {**special, **sizes, **more}


def model_for(tokenizer) -> Any:
    torch.manual_seed(0)
    width, layers = (512, 8) if torch.accelerator.is_available() else (64, 2)
    heads = {"num_attention_heads": 8, "num_key_value_heads": 2}
    config = Qwen2Config(**fields(tokenizer, width, intermediate_size=3 * width, num_hidden_layers=layers, **heads))
    return Qwen2ForCausalLM(config)


def left_padded(tokenizer, rows: list[Any], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask of the prompts, [rows, time]."""
    from hf_reason.generation.batching import pad_left

    ids, mask = pad_left([encode_prompt(row, tokenizer) for row in rows], tokenizer.pad_token_id)
    return ids.to(device), mask.to(device)


def generate(model: Any, tokenizer, ids: torch.Tensor, mask: torch.Tensor, count: int, **options: Any) -> torch.Tensor:
    """Exactly `count` tokens for each row, greedily: [rows, count]."""
    length = {"max_new_tokens": count, "min_new_tokens": count, "pad_token_id": tokenizer.pad_token_id}
    return model.generate(ids, attention_mask=mask, do_sample=False, **length, **options)[:, ids.shape[1] :]


def writes_alone(model: Any, tokenizer, ids: torch.Tensor, mask: torch.Tensor, count: int) -> bool:
    """Whether the first row of a left-padded batch is written as it is alone."""
    together = generate(model, tokenizer, ids, mask, count)[0]
    own = ids[:1, int((mask[0] == 0).sum()) :]
    alone = generate(model, tokenizer, own, torch.ones_like(own), count)[0]
    return bool((alone == together).float().mean() > 0.9)


def difference_on(device: torch.device, model: Any, ids: torch.Tensor) -> float:
    """Largest difference of the logits between the CPU and the device, relative to the largest; moves the model."""
    with torch.no_grad():
        expected = model(ids).logits
        found = model.to(device)(ids.to(device)).logits.cpu()
    return float((found - expected).abs().max() / expected.abs().max())


def check_losses(device: torch.device) -> float:
    """Largest difference between device and CPU of the smoothed, weighted loss's parts, in float32."""
    from hf_reason.losses import LMHead, smoothing_term, token_weights

    torch.manual_seed(0)
    hidden, weight, labels = torch.randn(512, 64), torch.randn(1000, 64), torch.randint(0, 1000, (512,))
    steps = torch.arange(512).view(4, 128) // 16
    segments = torch.ones_like(steps)
    parts = []
    for where in (torch.device("cpu"), device):
        term = smoothing_term(hidden.to(where), LMHead(weight.to(where)), labels.to(where)).cpu()
        weights = token_weights(
            labels.view(4, 128).to(where), segments.to(where), steps.to(where), step_weighting="step"
        ).cpu()
        parts.append((term, weights))
    return max(float((a - b).abs().max()) for a, b in zip(*parts, strict=True))


def check_divergence(device: torch.device) -> float:
    """Largest difference between device and CPU of the chunked divergence: loss, values, gradients, in float32."""
    from hf_reason.losses import LiveTargets, LMHead, TopKTargets, chunked_divergence

    worst = 0.0
    for beta in (0.0, 0.5, 1.0):
        for kind in ("live", "top-k"):
            parts = []
            for where in (torch.device("cpu"), device):
                torch.manual_seed(0)
                hidden, head = torch.randn(96, 64), torch.randn(1000, 64) / 8
                states, other = torch.randn(96, 32), torch.randn(1000, 32) / 6
                labels = torch.randint(0, 1000, (96,))
                full = (states @ other.T).log_softmax(-1)
                best, ids = full.topk(16)
                tail = (1 - best.exp().sum(-1)).log()
                live = LiveTargets(states.to(where), LMHead(other.to(where)))
                kept = TopKTargets(ids.to(where), best.to(where), tail.to(where))
                hidden, head = (x.to(where).requires_grad_() for x in (hidden, head))
                output = chunked_divergence(
                    hidden,
                    LMHead(head),
                    live if kind == "live" else kept,
                    labels.to(where),
                    beta=beta,
                    ce_weights=torch.ones(96, device=where),
                    chunk_size=40,
                )
                output.loss.backward()
                found: tuple[Any, ...] = (output.divergence, output.nll, hidden.grad, head.grad)
                parts.append([x.detach().cpu() for x in found])
            worst = max(worst, *(float((a - b).abs().max()) for a, b in zip(*parts, strict=True)))
    return worst


def check_generation(device: torch.device, tokenizer, rows: list[Any]) -> tuple[float, bool]:
    """Tokens/s of batched generation in bf16, and whether a left-padded batch equals its rows."""
    model = model_for(tokenizer).to(device, torch.bfloat16 if device.type != "cpu" else torch.float32).eval()
    ids, mask = left_padded(tokenizer, rows, device)
    generate(model, tokenizer, ids, mask, 64)
    started = common.now(device)
    output = generate(model, tokenizer, ids, mask, 64)
    seconds = common.now(device) - started
    return output.numel() / seconds, writes_alone(model.float(), tokenizer, ids, mask, 64)


def check_step_reasoner(device: torch.device, tokenizer, rows: list[Any]) -> tuple[float, bool]:
    """StepReasoner in float32: the largest difference of its logits between the device and the CPU, relative to the
    largest logit, and whether a left-padded batch writes the same with and without a cache."""
    from hf_reason import StepReasonerConfig, StepReasonerForCausalLM

    torch.manual_seed(0)
    stacks = {f"num_{name}_layers": 2 for name in ("encoder", "reasoner", "decoder")}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    more: dict[str, Any] = {"intermediate_size": 256, "plan_slots": 2, "initializer_range": 0.1}
    config = StepReasonerConfig(**fields(tokenizer, **stacks, **heads, **more)).set_tokens(tokenizer, triggers=["="])
    model = StepReasonerForCausalLM(config).eval()
    difference = difference_on(device, model, torch.tensor([encode(rows[0], tokenizer)["input_ids"]]))
    batch = left_padded(tokenizer, rows[:8], device)
    cached, plain = (generate(model, tokenizer, *batch, 48, use_cache=use) for use in (True, False))
    return difference, bool((cached == plain).float().mean() > 0.9)


def check_loar(device: torch.device, tokenizer, rows: list[Any]) -> tuple[float, bool]:
    """LoAR in float32: the largest difference of its logits between the device and the CPU, relative to the largest
    logit, and whether a left-padded batch writes what its rows write alone."""
    from hf_reason import LoARConfig, apply_loar

    torch.manual_seed(0)
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4}
    more: dict[str, Any] = {"intermediate_size": 256, "num_hidden_layers": 4, "initializer_range": 0.1}
    model: Any = Qwen2ForCausalLM(Qwen2Config(**fields(tokenizer, **heads, **more))).eval()
    loar = apply_loar(model, LoARConfig(budget=0.5, sliding_window=16).set_prompt_end(tokenizer))
    for name, parameter in loar.named_parameters():
        torch.nn.init.normal_(parameter, std=12.0 if name.endswith("weight") and "routers" in name else 1.0)
    difference = difference_on(device, model, torch.tensor([encode(rows[0], tokenizer)["input_ids"]]))
    return difference, writes_alone(model, tokenizer, *left_padded(tokenizer, rows[:8], device), 48)


def check_training(device: torch.device, tokenizer, rows: list[Any]) -> dict[str, float]:
    """Sixty steps of CoTSFTTrainer, weighted, smoothed and packed: the loss must fall."""
    from datasets import Dataset

    from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer

    data = Dataset.from_list(rows)
    with tempfile.TemporaryDirectory() as folder:
        args = CoTSFTConfig(
            folder,
            max_steps=60,
            per_device_train_batch_size=2,
            learning_rate=2e-3,
            packing=True,
            max_length=512,
            step_weighting="step",
            label_smoothing_factor=0.1,
            bf16=device.type != "cpu",
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            gradient_checkpointing=False,
            disable_tqdm=True,
        )
        trainer = CoTSFTTrainer(model_for(tokenizer), args, train_dataset=data, processing_class=tokenizer)
        started = common.now(device)
        trainer.train()
        seconds = common.now(device) - started
        losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
        tokens = trainer.state.log_history[-2]["num_tokens"]
    return {"first loss": losses[0], "last loss": losses[-1], "tokens/s": tokens / seconds}


def main() -> int:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = accelerator or torch.device("cpu")
    print(f"torch {torch.__version__}, device {device}", "" if accelerator else "(no accelerator: a dry run)")
    rows = records(2000)
    tokenizer = train_tokenizer((text for row in rows for text in render(row).values()), 640)
    failed = []
    difference = check_losses(device)
    print(f"losses against the CPU: largest difference {difference:.2e}")
    failed += ["losses"] if difference > 1e-3 else []
    difference = check_divergence(device)
    print(f"chunked divergence against the CPU: largest difference {difference:.2e}")
    failed += ["divergence"] if difference > 1e-2 else []
    speed, equal = check_generation(device, tokenizer, rows[:32])
    print(f"generation: {speed:.0f} tokens/s in a batch of 32; a batch equals its rows: {equal}")
    failed += [] if equal else ["generation"]
    difference, equal = check_step_reasoner(device, tokenizer, rows)
    print(f"StepReasoner: largest difference {difference:.2e} of the largest logit; with and without a cache: {equal}")
    failed += [] if difference < 1e-2 and equal else ["StepReasoner"]
    difference, equal = check_loar(device, tokenizer, rows)
    print(f"LoAR: largest difference {difference:.2e} of the largest logit; a batch equals its rows: {equal}")
    failed += [] if difference < 1e-2 and equal else ["LoAR"]
    lengths = [len(encode(row, tokenizer)["input_ids"]) for row in rows[:100]]
    print(f"records: {sum(lengths) / len(lengths):.0f} tokens each")
    missing = [name for name in ("trl", "datasets", "peft") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"training: left out, this Python has no {', '.join(missing)}")
    else:
        figures = check_training(device, tokenizer, rows)
        print("training:", ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
        failed += [] if figures["last loss"] < 0.7 * figures["first loss"] else ["training"]
    if device.type == "cuda":
        print(f"peak memory: {common.peak_mb(device):.0f} MB")
    print("FAILED: " + ", ".join(failed) if failed else "passed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
