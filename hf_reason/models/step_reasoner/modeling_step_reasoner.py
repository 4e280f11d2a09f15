"""StepReasoner: an encoder reads the prompt, a reasoner the finished pieces of the chain, a decoder words the next.

A causal language model on the outside: token ids in, logits of the next token out. See the configuration for what a
piece is, and docs/step_reasoner.md for the masks.
"""

import torch
from torch import nn
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel, slice_logits_to_keep
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm, Qwen2RotaryEmbedding
from transformers.utils import can_return_tuple
from transformers.utils.generic import merge_with_config_defaults

from .cache_step_reasoner import StepReasonerCache
from .configuration_step_reasoner import StepReasonerConfig
from .decoding_step_reasoner import CachedDecoding, begin
from .generating_step_reasoner import StepReasonerGeneration
from .inputs_step_reasoner import check_inputs, completion_of, telling
from .layers_step_reasoner import StepReasonerLayer
from .layout_step_reasoner import lay_out
from .stacks_step_reasoner import WholeText


class StepReasonerPreTrainedModel(PreTrainedModel):
    config: StepReasonerConfig
    config_class = StepReasonerConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["StepReasonerLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flex_attn = True
    # the step mask is no mask that the flash kernels know: they take causal and padding only
    _supports_flash_attn = False
    _supports_attention_backend = True
    # the widths of the streams follow from the ids, so the graph breaks where they are read
    _can_compile_fullgraph = False

    def save_pretrained(self, *args, **kwargs) -> None:
        """Where the code is saved beside the weights, it is named for both Auto classes, with and without the head."""
        if self._auto_class is not None:
            self.config.auto_map = {
                **(getattr(self.config, "auto_map", None) or {}),
                "AutoModel": "modeling_step_reasoner.StepReasonerModel",
                "AutoModelForCausalLM": "modeling_step_reasoner.StepReasonerForCausalLM",
            }
        super().save_pretrained(*args, **kwargs)

    # Libraries ask for the parts of an encoder-decoder model, which this one is not on the outside: what has these
    # names here are lists of layers.
    def get_encoder(self, *args, **kwargs):
        return self

    def get_decoder(self, *args, **kwargs):
        return self.base_model

    def _check_and_adjust_attn_implementation(self, attn_implementation, *args, **kwargs):
        if "flash" in str(attn_implementation):
            raise ValueError(
                f"attn_implementation={attn_implementation!r}: the step mask is neither causal nor padding, and the "
                "flash kernels take no other. Use 'flex_attention' on a GPU, or 'sdpa' or 'eager'."
            )
        return super()._check_and_adjust_attn_implementation(attn_implementation, *args, **kwargs)


class StepReasonerModel(WholeText, CachedDecoding, StepReasonerPreTrainedModel):
    """The three stacks without a head.

    `last_hidden_state` is zero at the positions of the prompt before its last token, and at padding: the encoder reads
    the prompt in both directions, so a state there could not be used to predict the next token.
    """

    _auto_class = "AutoModel"  # save_pretrained and push_to_hub add the code, for people without hf_reason

    def __init__(self, config: StepReasonerConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        reasoner, decoder = config.num_reasoner_layers, config.num_decoder_layers
        self.encoder = nn.ModuleList(StepReasonerLayer(config, i) for i in range(config.num_encoder_layers))
        self.reasoner = nn.ModuleList(StepReasonerLayer(config, i) for i in range(reasoner))
        self.decoder = nn.ModuleList(StepReasonerLayer(config, reasoner + i) for i in range(decoder))
        if config.plan_slots:
            self.plan_slots = nn.Embedding(config.plan_slots, config.hidden_size)
        self.norm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary_emb = Qwen2RotaryEmbedding(config)  # type: ignore[arg-type]  # reads only fields that we have too
        self.gradient_checkpointing = False
        self.post_init()

    @merge_with_config_defaults
    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: StepReasonerCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        step_ids: torch.Tensor | None = None,
        prompt_length: int | None = None,
        completion_mask: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """Run the model.

        Args:
            input_ids: [batch, time].
            attention_mask: [batch, time(, with the cached ones)], 0 for padding.
            position_ids: [batch, time]; a restart begins a new packed example. Default: counted from the mask.
            past_key_values: What `use_cache` returned; the new tokens then belong to the chain.
            inputs_embeds: [batch, time, hidden] instead of the ids; needs `step_ids`, and works without a cache.
            step_ids: [batch, time], 0 on the prompt and numbers that do not fall on the chain. Default: found from the
                ids that the config names.
            prompt_length: Columns from here on belong to the chain, whether it has a start-of-thought token or not.
            completion_mask: [batch, time], 1 on what the model has to write: an example's chain begins at the first of
                these tokens, unless a start-of-thought token comes before. The head makes it from the labels.
            use_cache: Whether to return a cache.
            **kwargs: `output_hidden_states` returns the states of the decoder stack, which runs over the chain: the
                embeddings and the output of each layer, [batch, time, hidden], 0 on the prompt.

        Raises:
            ValueError: for embeddings without `step_ids` or with a cache, a mask that is not two-dimensional, a cache
                of another class, packed examples with a cache, or a request for `output_attentions`.
        """
        check_inputs(input_ids, inputs_embeds, attention_mask, step_ids, past_key_values)
        states_asked = self._asked("output_hidden_states", kwargs)
        if self._asked("output_attentions", kwargs):
            raise ValueError(
                "output_attentions: not supported, since the three stacks of StepReasoner attend from other tokens to "
                "other tokens. Put forward hooks on the layers of model.encoder, .reasoner and .decoder."
            )
        if past_key_values is not None and self.gradient_checkpointing and self.training:
            raise ValueError(
                "Layers under gradient checkpointing keep nothing in a cache while they train. Call model.eval(), or "
                "leave past_key_values out."
            )
        if past_key_values is not None and past_key_values.tokens:
            hidden_states = self._continue(input_ids, past_key_values)
            return BaseModelOutputWithPast(
                last_hidden_state=hidden_states[-1],
                past_key_values=past_key_values,
                hidden_states=hidden_states if states_asked else None,
            )

        tokens = inputs_embeds if input_ids is None else input_ids
        assert tokens is not None
        shape = tokens.shape[:2]
        position_ids = self._positions(shape, attention_mask, position_ids)
        layout = lay_out(
            input_ids,
            position_ids,
            attention_mask,
            step_ids,
            prompt_length,
            completion_mask,
            thought_start=self.config.thought_start_token_ids or [],
            ends=self.config.piece_end_token_ids,
            max_piece_length=self.config.max_piece_length,
            plan_slots=self.config.plan_slots,
        )
        cache = None
        if (past_key_values is not None or use_cache) and input_ids is not None and not layout.packed:
            cache = StepReasonerCache(self.config) if past_key_values is None else past_key_values
            begin(cache, layout, input_ids)
        elif past_key_values is not None:
            raise ValueError("A cache holds one example a row, from input_ids: not packed ones, no inputs_embeds.")
        index, valid = layout.chain.index.unsqueeze(-1), layout.chain.valid.unsqueeze(-1)
        hidden_states = tuple(
            states.new_zeros(*shape, states.shape[-1]).scatter(1, index.expand_as(states), states * valid)
            for states in self._stacks(layout, input_ids, inputs_embeds, cache)[0 if states_asked else -1 :]
        )
        return BaseModelOutputWithPast(
            last_hidden_state=hidden_states[-1],
            past_key_values=cache if use_cache else None,
            hidden_states=hidden_states if states_asked else None,
        )

    def _asked(self, name: str, given: dict) -> bool:
        """Whether an output was asked for, in the call or in the config."""
        asked = given.get(name)
        return bool(getattr(self.config, name, False) if asked is None else asked)


class StepReasonerForCausalLM(StepReasonerGeneration, StepReasonerPreTrainedModel, GenerationMixin):
    """StepReasoner with a language modelling head; `generate`, trainers and PEFT take it like any causal model."""

    _auto_class = "AutoModelForCausalLM"
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: StepReasonerConfig) -> None:
        super().__init__(config)
        self.model = StepReasonerModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def __setattr__(self, name, value):
        # TRL, and PEFT past the module's hooks, call what somebody has put in the place of `forward`
        super().__setattr__(name, telling(value) if name == "forward" else value)  # type: ignore[arg-type]

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: StepReasonerCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        step_ids: torch.Tensor | None = None,
        prompt_length: int | None = None,
        completion_mask: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """As [`StepReasonerModel`], with logits [batch, time, vocabulary] and, given labels, the loss.

        The labels also say where the prompt ends and the chain begins, as `completion_mask` does. Labels on the prompt
        add a constant to the loss, log(vocabulary) a token: leave them at -100, as a trainer does that learns
        completions only.
        """
        if labels is not None:
            completion_mask = completion_of(labels, completion_mask, step_ids, prompt_length)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            step_ids=step_ids,
            prompt_length=prompt_length,
            completion_mask=completion_mask,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(slice_logits_to_keep(outputs.last_hidden_state, logits_to_keep))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=outputs.past_key_values, hidden_states=outputs.hidden_states
        )

    @classmethod
    def from_decoder_only(cls, model, **kwargs) -> "StepReasonerForCausalLM":
        """Initialise every layer from a decoder-only checkpoint; see `conversion_step_reasoner.from_decoder_only`."""
        from .conversion_step_reasoner import from_decoder_only

        return from_decoder_only(cls, model, **kwargs)


__all__ = ["StepReasonerForCausalLM", "StepReasonerModel", "StepReasonerPreTrainedModel"]
