"""What LoAR saves at inference: prefill seconds, decoded tokens/s and cache bytes, against the same model without it.

    python recipes/bench/bench_loar.py --contexts 1024 4096 8192 16384 --repeats 5 --threads 2

One Qwen2-shaped model with random weights (512 wide, 4 layers of 8 heads, 8 key/value groups, a small vocabulary, so
that attention is what is measured). With fewer groups (`--num_key_value_heads 2`) LoAR routes the query heads. All
ways run in turn on the same prompt, in one process, so that a slow minute of the machine hits all of them; the figures
are medians. `dense, static cache` has room for all tokens from the start, so nothing is copied; `window` is a sliding
window on the shallow half of the layers; `copies` are the working heads' rows of the projections, which live as long
as the cache of one row.
"""

import time
from functools import partial
from typing import Any

import common
import torch
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM, StaticCache

from hf_reason import LoARConfig, apply_loar

HEADS = 8
STATIC = "dense, static cache"


def ways(grain: str) -> dict[str, dict[str, Any] | None]:
    """LoAR's settings of each side; `None`: none."""
    return {
        "dense": None,
        STATIC: None,
        f"75% of the {grain}": {"budget": 0.75, "grain": grain},
        f"50% of the {grain}": {"budget": 0.5, "grain": grain},
        "window": {"budget": 1.0, "sliding_window": 512},
        "75% and window": {"budget": 0.75, "grain": grain, "sliding_window": 512},
    }


def build(groups: int) -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=4096,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=4,
        num_attention_heads=HEADS,
        num_key_value_heads=groups,
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
def measure(model: Any, ids: torch.Tensor, new_tokens: int, static: bool = False) -> dict[str, float]:
    cache: Any = DynamicCache(config=model.config)
    if static:
        cache = StaticCache(config=model.config, max_cache_len=ids.shape[1] + new_tokens)
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
    parser.add_argument("--num_key_value_heads", type=int, choices=(1, 2, 4, 8), default=HEADS)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    models = {}
    for name, fields in ways("groups" if args.num_key_value_heads == HEADS else "heads").items():
        models[name] = build(args.num_key_value_heads)
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
        sides = {name: partial(measure, model, ids, args.new_tokens, name == STATIC) for name, model in models.items()}
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
