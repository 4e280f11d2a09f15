"""The block of StepReasoner: Qwen2's, whose attention reads a memory beside its own input."""

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP, Qwen2RMSNorm, eager_attention_forward, rotate_half

from .cache_step_reasoner import Appending, Filling
from .configuration_step_reasoner import StepReasonerConfig

Rope = tuple[torch.Tensor, torch.Tensor]


def _rotate(states: torch.Tensor, rope: Rope) -> torch.Tensor:
    """Rotary embedding of [batch, n, heads, head_dim]; `rope` holds cosines and sines, [batch, n, head_dim]."""
    cos, sin = (part.unsqueeze(2) for part in rope)
    return states * cos + rotate_half(states) * sin


class StepReasonerAttention(nn.Module):
    """Attention with one softmax over memory and own keys; both go through the same projections.

    Args:
        config: The model's configuration.
        layer_idx: Number of the layer in the cache, where reasoner and decoder layers are counted together.
    """

    def __init__(self, config: StepReasonerConfig, layer_idx: int) -> None:
        super().__init__()
        assert config.head_dim and config.num_key_value_heads  # the config fills them in
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.num_key_value_groups = config.num_attention_heads // config.num_key_value_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False  # the masks say who sees whom
        width, bias = config.hidden_size, config.attention_bias
        self.q_proj = nn.Linear(width, config.num_attention_heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(width, config.num_key_value_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(width, config.num_key_value_heads * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(config.num_attention_heads * self.head_dim, width, bias=False)
        if config.use_qk_norm:
            self.q_norm = Qwen2RMSNorm(self.head_dim, eps=config.rms_norm_eps)
            self.k_norm = Qwen2RMSNorm(self.head_dim, eps=config.rms_norm_eps)

    def keys_values(self, states: torch.Tensor, rope: Rope) -> tuple[torch.Tensor, torch.Tensor]:
        """[batch, n, hidden] -> rotated keys, and values: [batch, key/value heads, n, head_dim]."""
        heads = (*states.shape[:-1], -1, self.head_dim)
        keys = self.k_proj(states).view(heads)
        if self.config.use_qk_norm:
            keys = self.k_norm(keys)
        return _rotate(keys, rope).transpose(1, 2), self.v_proj(states).view(heads).transpose(1, 2)

    def forward(
        self,
        states: torch.Tensor,
        sources: torch.Tensor,
        rope: Rope,
        sources_rope: Rope,
        attention_mask: torch.Tensor | None,
        past_key_values: Filling | Appending | None = None,
    ) -> torch.Tensor:
        """`states` [batch, n, hidden] attend to `sources` [batch, keys, hidden], memory and own together."""
        queries = self.q_proj(states).view(*states.shape[:-1], -1, self.head_dim)
        if self.config.use_qk_norm:
            queries = self.q_norm(queries)
        queries = _rotate(queries, rope).transpose(1, 2)
        keys, values = self.keys_values(sources, sources_rope)
        if past_key_values is not None:
            keys, values = past_key_values.update(keys, values, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.config.attention_dropout if self.training else 0.0
        output, _ = attend(self, queries, keys, values, attention_mask, dropout=dropout, scaling=self.scaling)
        return self.o_proj(output.reshape(*states.shape[:-1], -1))


class StepReasonerLayer(GradientCheckpointingLayer):
    """The Qwen2 block; its keys come from a memory as well as from its own input."""

    def __init__(self, config: StepReasonerConfig, layer_idx: int) -> None:
        super().__init__()
        self.self_attn = StepReasonerAttention(config, layer_idx)
        self.mlp = Qwen2MLP(config)
        self.input_layernorm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = Qwen2RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        memory: torch.Tensor | None,
        rope: Rope,
        sources_rope: Rope,
        attention_mask: torch.Tensor | None,
        past_key_values: Filling | Appending | None = None,
    ) -> torch.Tensor:
        """[batch, n, hidden] and a memory [batch, m, hidden], whose keys come first, -> [batch, n, hidden]."""
        sources = hidden_states if memory is None else torch.cat([memory, hidden_states], dim=1)
        sources = self.input_layernorm(sources)
        states = sources[:, sources.shape[1] - hidden_states.shape[1] :]
        hidden_states = hidden_states + self.self_attn(
            states, sources, rope, sources_rope, attention_mask, past_key_values
        )
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))

    def remember(self, states: torch.Tensor, rope: Rope, past_key_values: Appending) -> None:
        """Put the keys and values of a memory into the cache without attending to it."""
        keys, values = self.self_attn.keys_values(self.input_layernorm(states), rope)
        past_key_values.update(keys, values, self.self_attn.layer_idx)
