"""Tiny StepReasoners, and token ids that a person can read: one character a token."""

import pytest
from tiny import tiny_step_reasoner

# _ padding, $ end of text, < start of the thought, . end of a step, = trigger; letters are plain tokens
ALPHABET = "_$<.=abcdefghijklmnopqrstuvwxyz"
PAD, EOS, START, STEP_END, TRIGGER = range(5)


@pytest.fixture
def ids():
    """Texts -> [batch, time] token ids; shorter rows are an error."""
    import torch

    def encode(*texts: str):
        return torch.tensor([[ALPHABET.index(character) for character in text] for text in texts])

    return encode


@pytest.fixture
def step_config():
    """Make a StepReasonerConfig of 2 + 2 + 2 layers; keywords override."""
    from hf_reason.models.step_reasoner.configuration_step_reasoner import StepReasonerConfig

    def make(**overrides):
        fields = {
            "vocab_size": len(ALPHABET),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_encoder_layers": 2,
            "num_reasoner_layers": 2,
            "num_decoder_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "use_qk_norm": False,
            "plan_slots": 0,
            "initializer_range": 0.2,  # large enough for every token to show in every later state
            "thought_start_token_ids": [START],
            "boundary_token_ids": [STEP_END],
            "pad_token_id": PAD,
            "eos_token_id": EOS,
        }
        return StepReasonerConfig(**{**fields, **overrides})

    return make


@pytest.fixture
def step_model(step_config):
    """Make a seeded StepReasonerForCausalLM in float64, in eval mode; keywords override the config's fields."""
    import torch

    from hf_reason.models.step_reasoner.modeling_step_reasoner import StepReasonerForCausalLM

    def make(**overrides):
        torch.manual_seed(0)
        return StepReasonerForCausalLM(step_config(**overrides)).double().eval()

    return make


@pytest.fixture
def text_model(tokenizer):
    """Make a seeded StepReasonerForCausalLM for the project's tokenizer, in eval mode; keywords override."""

    def make(**overrides):
        fields = {f"num_{stack}_layers": 2 for stack in ("encoder", "reasoner", "decoder")}
        fields |= {"initializer_range": 0.2, "use_qk_norm": False, "plan_slots": 1}
        return tiny_step_reasoner(tokenizer, **{**fields, **overrides}).eval()

    return make
