"""What LoAR saves at inference: prefill seconds, decoded tokens/s and cache bytes, against the same model without it.

    python recipes/bench/bench_loar.py --contexts 1024 4096 8192 16384 --repeats 5 --threads 2

One Qwen2-shaped model with random weights (512 wide, 4 layers, 8 key/value groups, a small vocabulary, so that
attention is what is measured). All ways run in turn on the same prompt, in one process, so that a slow minute of the
machine hits all of them; the figures are medians. `window` is a sliding window on the shallow half of the layers;
`copies` are the working groups' rows of the projections, which live as long as the cache of one row.
"""

import time
from functools import partial
from typing import Any

import common
import torch
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

from hf_reason import LoARConfig, apply_loar

WAYS: dict[str, dict[str, Any] | None] = {
    "dense": None,
    "75% of the groups": {"budget": 0.75},
    "50% of the groups": {"budget": 0.5},
    "window": {"budget": 1.0, "sliding_window": 512},
    "75% and window": {"budget": 0.75, "sliding_window": 512},
}


def build() -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=4096,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config).eval()


def cache_bytes(cache: Any) -> int:
    """Memory of keys and values, room for growth included."""
    return sum(
        layer.num_bytes()
        if hasattr(layer, "num_bytes")
        else sum(states.untyped_storage().nbytes() for states in (layer.keys, layer.values))
        for layer in cache.layers
    )


@torch.no_grad()
def measure(model: Any, ids: torch.Tensor, new_tokens: int) -> dict[str, float]:
    cache = DynamicCache(config=model.config)
    started = time.perf_counter()
    output = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    prefill = time.perf_counter() - started
    token = output.logits[:, -1:].argmax(-1)
    started = time.perf_counter()
    for _ in range(new_tokens):
        token = model(token, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)
    decode = new_tokens / (time.perf_counter() - started)
    copies = sum(layer.projection_bytes() for layer in cache.layers if hasattr(layer, "projection_bytes"))
    return {"prefill": prefill, "decode": decode, "bytes": float(cache_bytes(cache)), "copies": float(copies)}


def main() -> None:
    parser = common.parser(__doc__)
    common.add_timing_options(parser, repeats=5)
    parser.add_argument("--contexts", type=int, nargs="+", default=[1024, 4096, 8192, 16384])
    parser.add_argument("--new_tokens", type=int, default=48)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    models = {}
    for name, fields in WAYS.items():
        models[name] = build()
        if fields is not None:
            apply_loar(models[name], LoARConfig(**fields))
    everything: dict[str, Any] = {}
    speeds = ["prefill s", "tokens/s", "cache MB", "copies MB"]
    columns = ["context", "way", *speeds, "prefill x", "decode x", "cache x", "with copies x"]
    for context in args.contexts:
        torch.manual_seed(1)
        ids = torch.randint(0, 4096, (1, context))
        for model in models.values():  # once without the clock
            measure(model, ids[:, :256], 2)
        sides = {name: partial(measure, model, ids, args.new_tokens) for name, model in models.items()}
        found = common.alternate(sides, args.repeats)
        middle = common.medians(found)
        dense, rows = middle["dense"], []
        for name, row in middle.items():
            factors = (
                dense["prefill"] / row["prefill"],
                row["decode"] / dense["decode"],
                row["bytes"] / dense["bytes"],
                (row["bytes"] + row["copies"]) / dense["bytes"],
            )
            sizes = (f"{row[key] / 2**20:.1f}" for key in ("bytes", "copies"))
            cells = (f"{row['prefill']:.2f}", f"{row['decode']:.1f}", *sizes)
            rows.append([context, name, *cells, *(f"{factor:.2f}" for factor in factors)])
        common.print_markdown(columns, rows)
        everything[str(context)] = found
    common.write_json(args.json, args, everything)


if __name__ == "__main__":
    main()
