"""Pain 10, modelscope/ms-swift#7295, huggingface/trl#2255: the teacher's logits run out of memory.

TRL's `GKDTrainer` has the pain; its newer `DistillationTrainer` computes in tiles, as `DistillKLTrainer` does.
"""

import pytest
import torch
from tiny import tiny_qwen2
from torch.utils._python_dispatch import TorchDispatchMode

from hf_reason.losses import LiveTargets, LMHead, chunked_divergence

POSITIONS, WIDTH, CHUNK = 96, 16, 8


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return result


@pytest.fixture
def heads():
    torch.manual_seed(0)
    return [(torch.randn(POSITIONS, WIDTH), torch.randn(600, WIDTH)) for _ in range(2)]


@pytest.mark.filterwarnings("ignore")
def test_the_plain_loss_builds_the_logits_of_both_models(heads):
    from trl.experimental.gkd import GKDTrainer

    with Largest() as largest:
        logits = [(states @ weight.T).unsqueeze(0) for states, weight in heads]
        GKDTrainer.generalized_jsd_loss(*logits, labels=torch.zeros(1, POSITIONS, dtype=torch.long), beta=0.5)
    assert largest.elements >= POSITIONS * 600


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_no_tensor_has_the_size_of_the_logits(heads, beta):
    (ours, our_head), (theirs, their_head) = heads
    ours.requires_grad_(True)
    targets = LiveTargets(theirs, LMHead(their_head))
    ones = torch.ones(POSITIONS)
    with Largest() as largest:
        chunked_divergence(
            ours,
            LMHead(our_head),
            targets,
            torch.zeros(POSITIONS, dtype=torch.long),
            weights=ones,
            ce_weights=ones,
            beta=beta,
            chunk_size=CHUNK,
        ).loss.backward()
    assert largest.elements <= max(2 * CHUNK * 600, 600 * WIDTH) < POSITIONS * 600 / 4


def test_a_cache_of_top_k_needs_no_teacher_at_all(tokenizer):
    """160 bytes a token at k = 32 (tests/teachers/test_cache.py) in place of two bytes for each id."""
    from hf_reason.teachers.cache_format import CachedRow, pack_row

    assert tiny_qwen2(tokenizer).config.vocab_size == len(tokenizer)
    tokens, k = 10, 32
    half = torch.zeros(tokens, k, dtype=torch.float16).numpy()
    ids = torch.zeros(tokens, k, dtype=torch.int64).numpy()
    none = ids[:, :0]
    size = len(pack_row(CachedRow(ids, half, half[:, 0], none, half[:, 0], None)))
    assert size / tokens <= 170
