"""Configuration of StepReasoner."""

from collections.abc import Iterable

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig


@strict
class StepReasonerConfig(PreTrainedConfig):
    r"""Configuration of a [`StepReasonerModel`]: encoder - reasoner - decoder, a causal language model on the outside.

    Fields that Qwen2 has mean what they mean there.

    Args:
        vocab_size: Number of rows of the embedding; may be larger than the tokenizer's.
        hidden_size: Width of all three stacks.
        intermediate_size: Width of the gated feed-forward.
        num_encoder_layers: Layers that read the prompt, in both directions; at least 0.
        num_reasoner_layers: Layers that read finished pieces of the chain; 0 leaves the decoder without a reasoner.
        num_decoder_layers: Layers that run for every token; at least 1.
        num_hidden_layers: Their sum. Derived; given, it has to agree.
        num_attention_heads: Query heads.
        num_key_value_heads: Key/value heads (grouped-query attention); `None`: as many as query heads.
        head_dim: Width of a head; `None`: hidden_size / num_attention_heads.
        hidden_act: Activation of the feed-forward.
        max_position_embeddings: Longest sequence, prompt and chain together.
        initializer_range: Standard deviation of the initial weights.
        rms_norm_eps: Epsilon of the RMS norms.
        attention_bias: Bias on the query, key and value projections (Qwen2: yes; Qwen3, Llama: no).
        use_qk_norm: RMS norm on every head's queries and keys (Qwen3: yes; Qwen2, Llama: no).
        attention_dropout: Dropout on the attention weights.
        use_cache: Whether `generate` keeps the keys and values.
        tie_word_embeddings: Whether the head is the embedding.
        rope_parameters: As in Qwen2: `rope_type`, `rope_theta` and the scaling's own fields.
        layer_types: One entry a layer, encoder first: `full_attention` or, in the encoder only, `sliding_attention`.
        sliding_window: A sliding encoder layer sees the tokens fewer than this many positions away, on either side.
        thought_start_token_ids: The chain begins at the first of these tokens (usually `<think>`).
        boundary_token_ids: Tokens that end a step (every vocabulary entry with a line break, say).
        trigger_token_ids: Tokens inside a step after which the reasoner runs as well ("=", say). A *piece* is what
            stands between two such tokens, of either kind; the last token belongs to the piece that it ends, and sees
            all of it, since it predicts a token of the next one.
        max_piece_length: A piece is also cut after this many tokens, at least 2; 0 never cuts. (The first token of the
            stream only leads to the first piece, so it cannot be a piece of its own.)
        plan_slots: Learned queries that open every piece in the reasoner; 0 switches them off (and has to, without a
            reasoner).
        decoder_window: A token sees the decoder's own states of this many tokens, itself included; 0 for the whole
            chain. What is further back it sees through the reasoner, so a window should not be shorter than a
            piece. It keeps the cache small: see docs/step_reasoner.md.
        pad_token_id, bos_token_id, eos_token_id: As everywhere.

    Raises:
        ValueError: at construction, naming the field, if the counts, the layer types or the token ids do not fit.
    """

    model_type = "step_reasoner"
    _auto_class = "AutoConfig"  # save_pretrained and push_to_hub add the code, for people without hf_reason
    keys_to_ignore_at_inference = ["past_key_values"]

    vocab_size: int = 151936
    hidden_size: int = 896
    intermediate_size: int = 4864
    num_encoder_layers: int = 12
    num_reasoner_layers: int = 6
    num_decoder_layers: int = 3
    num_hidden_layers: int | None = None
    num_attention_heads: int = 14
    num_key_value_heads: int | None = 2
    head_dim: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 32768
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    attention_bias: bool = True
    use_qk_norm: bool = True
    attention_dropout: float | int = 0.0
    use_cache: bool = True
    tie_word_embeddings: bool = False
    rope_parameters: dict | None = None
    layer_types: list[str] | None = None
    sliding_window: int | None = None
    thought_start_token_ids: list[int] | None = None
    boundary_token_ids: list[int] | None = None
    trigger_token_ids: list[int] | None = None
    max_piece_length: int = 0
    plan_slots: int = 0
    decoder_window: int = 0
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs):
        total = self.num_encoder_layers + self.num_reasoner_layers + self.num_decoder_layers
        if self.num_hidden_layers is None:
            self.num_hidden_layers = total
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.layer_types is None:
            self.layer_types = ["full_attention"] * self.num_hidden_layers
        for name in ("thought_start_token_ids", "boundary_token_ids", "trigger_token_ids"):
            setattr(self, name, sorted(set(getattr(self, name) or [])))
        super().__post_init__(**kwargs)
        self._check(total)

    def _check(self, total: int) -> None:
        if self.num_hidden_layers != total:
            raise ValueError(
                f"num_hidden_layers={self.num_hidden_layers}, but num_encoder_layers + num_reasoner_layers + "
                f"num_decoder_layers is {total}. Leave num_hidden_layers out, or make them agree."
            )
        counts = ("num_encoder_layers", "num_reasoner_layers", "plan_slots", "max_piece_length", "decoder_window")
        negative = [name for name in counts if getattr(self, name) < 0]
        if negative:
            raise ValueError(f"{', '.join(negative)} cannot be negative.")
        if self.max_piece_length == 1:
            raise ValueError(
                "max_piece_length has to be 0 (no limit) or at least 2. For a piece a token, name every token in "
                "boundary_token_ids."
            )
        if self.num_decoder_layers < 1:
            raise ValueError("num_decoder_layers has to be at least 1: the decoder predicts the tokens.")
        if self.plan_slots and not self.num_reasoner_layers:
            raise ValueError(
                "plan_slots are states of the reasoner: set num_reasoner_layers above 0, or plan_slots to 0."
            )
        if not self.num_key_value_heads or self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} is no multiple of "
                f"num_key_value_heads={self.num_key_value_heads}."
            )
        self._check_layer_types()
        for name in ("thought_start_token_ids", "boundary_token_ids", "trigger_token_ids"):
            outside = [i for i in getattr(self, name) if not 0 <= i < self.vocab_size]
            if outside:
                raise ValueError(f"{name}: {outside[:3]} are no ids of a vocabulary of {self.vocab_size}.")

    def _check_layer_types(self) -> None:
        types, encoder = self.layer_types or [], self.num_encoder_layers
        if len(types) != self.num_hidden_layers or set(types) - {"full_attention", "sliding_attention"}:
            raise ValueError(
                f"layer_types has to hold {self.num_hidden_layers} entries (encoder, reasoner, decoder), each "
                "'full_attention' or 'sliding_attention'."
            )
        if "sliding_attention" in types[encoder:]:
            raise ValueError("layer_types: only encoder layers can slide; reasoner and decoder read the whole memory.")
        if "sliding_attention" in types and not (self.sliding_window and self.sliding_window > 0):
            raise ValueError("layer_types has sliding_attention: set sliding_window to a number of tokens.")

    @property
    def piece_end_token_ids(self) -> list[int]:
        """Tokens that end a piece: boundaries and triggers."""
        return [*(self.boundary_token_ids or []), *(self.trigger_token_ids or [])]

    def set_tokens(
        self,
        tokenizer,
        thought_start: str | None = "<think>",
        boundaries: Iterable[str] | None = ("\n",),
        triggers: Iterable[str] | None = ("=",),
    ) -> "StepReasonerConfig":
        """Fill the three sets of token ids from a tokenizer; `None` leaves a set as it is.

        Args:
            tokenizer: Its vocabulary is searched; a boundary or trigger is every entry whose text contains the string,
                since a tokenizer may merge a line break or an equals sign with its neighbours.
            thought_start: A single token of the tokenizer.
            boundaries: Strings that end a step.
            triggers: Strings inside a step after which the reasoner runs as well.

        Returns:
            The config itself.

        Raises:
            ValueError: if `thought_start` is no single token, no entry contains one of the strings, or an id that was
                found is outside the embedding (`vocab_size`). The config is then as before.
        """
        start = None if thought_start is None else tokenizer.convert_tokens_to_ids(thought_start)
        if thought_start is not None and (start is None or start == tokenizer.unk_token_id):
            raise ValueError(
                f"The tokenizer has no token {thought_start!r}, where the chain begins. Add it with "
                "tokenizer.add_tokens (and resize the embeddings), or name another with thought_start."
            )
        texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))], skip_special_tokens=False)

        def containing(strings: Iterable[str], field: str) -> list[int]:
            found: list[int] = []
            for string in [strings] if isinstance(strings, str) else strings:
                ids = [i for i, text in enumerate(texts) if string in text and i not in tokenizer.all_special_ids]
                if not ids:
                    raise ValueError(f"{field}: no token of this tokenizer contains {string!r}.")
                found += ids
            return sorted(set(found))

        sets: dict[str, list[int]] = {}
        if start is not None:
            sets["thought_start_token_ids"] = [start]
        if boundaries is not None:
            sets["boundary_token_ids"] = containing(boundaries, "boundaries")
        if triggers is not None:
            sets["trigger_token_ids"] = containing(triggers, "triggers")
        largest = max((i for ids in sets.values() for i in ids), default=0)
        if largest >= self.vocab_size:
            raise ValueError(
                f"The tokenizer has ids up to {largest}, but the embedding has {self.vocab_size} rows. Call "
                "resize_token_embeddings(len(tokenizer)) on the model first (of a conversion: on its source), or give "
                "a new config vocab_size=len(tokenizer)."
            )
        for name, ids in sets.items():
            setattr(self, name, ids)
        return self


__all__ = ["StepReasonerConfig"]
