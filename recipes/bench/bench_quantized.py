"""What a quantised model costs at inference: seconds of a prompt, decoded tokens/s and bytes, against the whole model.

    hf-reason quantize --model_name_or_path MODEL --dataset_name DATA --output_dir outputs/4bit
    python recipes/bench/bench_quantized.py --model_name_or_path MODEL --quantized outputs/4bit --threads 2

All sides run in turn on the same tokens, in one process, so that a slow minute of the machine hits all of them; the
figures are medians, the ratios those against the whole model. Of a GPTQ checkpoint two sides run: packed, as
`from_pretrained` loads it, and the dense weights that it stands for (`load_dequantized`).
"""

import time
from functools import partial
from pathlib import Path
from typing import Any

import common
import torch

from hf_reason.compression import load_dequantized
from hf_reason.models.quantized_loading import load_causal_lm, quantization_settings


def weight_bytes(model: Any) -> int:
    """Of all parameters and buffers, tied ones once."""
    tensors = {tensor.data_ptr(): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


@torch.no_grad()
def measure(model: Any, ids: torch.Tensor, new_tokens: int) -> dict[str, float]:
    started = common.now(model.device)
    output = model(ids, use_cache=True, logits_to_keep=1)
    prefill = common.now(model.device) - started
    token = output.logits[:, -1:].argmax(-1)
    started = common.now(model.device)
    for _ in range(new_tokens):
        output = model(token, past_key_values=output.past_key_values, use_cache=True)
        token = output.logits[:, -1:].argmax(-1)
    decode = len(ids) * new_tokens / (common.now(model.device) - started)
    return {"prefill": prefill, "decode": decode}


def sides_of(args: Any) -> dict[str, Any]:
    options = {"dtype": getattr(torch, args.dtype)}
    sides = {"whole": load_causal_lm(str(args.model_name_or_path), **options)}
    for folder in args.quantized:
        method = (quantization_settings(folder) or {}).get("quant_method")
        sides[folder.name] = load_causal_lm(str(folder), **options)
        if method == "gptq":
            sides[f"{folder.name}, dense again"] = load_dequantized(folder, options["dtype"])
    device = "cpu" if args.use_cpu or not torch.accelerator.is_available() else torch.accelerator.current_accelerator()
    return {name: model.to(device).eval() for name, model in sides.items()}


def main() -> None:
    parser = common.parser(__doc__)
    common.add_timing_options(parser)
    parser.add_argument("--model_name_or_path", type=Path, required=True, help="The whole model.")
    parser.add_argument("--quantized", type=Path, nargs="+", required=True, help="What `quantize` made of it.")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--context", type=int, default=256, help="Tokens of the prompt.")
    parser.add_argument("--new_tokens", type=int, default=16)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--use_cpu", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    models = sides_of(args)
    size = next(iter(models.values())).config.get_text_config().vocab_size
    everything: dict[str, Any] = {}
    rows: list[list[Any]] = []
    started = time.monotonic()
    for batch in args.batch_sizes:
        torch.manual_seed(0)
        ids = torch.randint(0, size, (batch, args.context))
        sides = {
            name: partial(measure, model, ids.to(model.device), args.new_tokens) for name, model in models.items()
        }
        found = common.alternate(sides, args.repeats, warm_up=1)
        middle = common.medians(found)
        whole = middle["whole"]
        for name, row in middle.items():
            ratios = (whole["prefill"] / row["prefill"], row["decode"] / whole["decode"])
            cells = (f"{row['prefill']:.2f}", f"{row['decode']:.1f}", f"{weight_bytes(models[name]) / 1e6:.1f}")
            rows.append([batch, name, *cells, *(f"{ratio:.2f}" for ratio in ratios)])
        everything[str(batch)] = found
    common.print_markdown(["rows", "weights", "prompt s", "tokens/s", "MB", "prompt x", "tokens x"], rows)
    print(f"{time.monotonic() - started:.0f} s, {torch.get_num_threads()} threads")
    common.write_json(args.json, args, everything)


if __name__ == "__main__":
    main()
