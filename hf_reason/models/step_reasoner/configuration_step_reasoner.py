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
            lies between two such tokens, of either kind; the last token belongs to the piece that it ends.
        max_piece_length: A piece is also cut after this many tokens; 0 never cuts.
        plan_slots: Learned queries that open every piece in the reasoner; 0 switches them off.
        pad_token_id, bos_token_id, eos_token_id: As everywhere.

    Raises:
        ValueError: at construction, naming the field, if the counts, the layer types or the token ids do not fit.
    """

    model_type = "step_reasoner"
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
    use_qk_norm: bool = False
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
        if min(self.num_encoder_layers, self.num_reasoner_layers, self.plan_slots, self.max_piece_length) < 0:
            raise ValueError(
                "num_encoder_layers, num_reasoner_layers, plan_slots and max_piece_length cannot be negative."
            )
        if self.num_decoder_layers < 1:
            raise ValueError("num_decoder_layers has to be at least 1: the decoder predicts the tokens.")
        if self.plan_slots and not self.num_reasoner_layers:
            raise ValueError(
                "plan_slots are states of the reasoner: set num_reasoner_layers above 0, or plan_slots to 0."
            )
        if self.num_attention_heads % self.num_key_value_heads:
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
        types, encoder = self.layer_types, self.num_encoder_layers
        if len(types) != self.num_hidden_layers or set(types) - {"full_attention", "sliding_attention"}:
            raise ValueError(
                f"layer_types has to hold {self.num_hidden_layers} entries (encoder, reasoner, decoder), each "
                "'full_attention' or 'sliding_attention'."
            )
        if "sliding_attention" in types[encoder:]:
            raise ValueError("layer_types: only encoder layers can slide; reasoner and decoder read the whole memory.")
        if "sliding_attention" in types and not (self.sliding_window and self.sliding_window > 0):
            raise ValueError("layer_types has sliding_attention: set sliding_window to a number of tokens.")

    def set_tokens(
        self,
        tokenizer,
        thought_start: str | None = "<think>",
        boundaries: Iterable[str] | None = ("\n",),
        triggers: Iterable[str] | None = (),
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
            ValueError: if `thought_start` is no single token, or no entry contains one of the strings.
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

        if start is not None:
            self.thought_start_token_ids = [start]
        if boundaries is not None:
            self.boundary_token_ids = containing(boundaries, "boundaries")
        if triggers is not None:
            self.trigger_token_ids = containing(triggers, "triggers")
        return self


__all__ = ["StepReasonerConfig"]
