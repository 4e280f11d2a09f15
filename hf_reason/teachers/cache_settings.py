"""What a top-k cache is made of."""

from dataclasses import dataclass

from hf_reason._renamed import renamed


@renamed(teacher="teacher_model_name_or_path", tokenizer="tokenizer_name_or_path", k="top_k", path="path_consistency")
@dataclass
class CacheSettings:
    """What a cache is made of; a stopped run resumes only with the same settings.

    Attributes:
        teacher_model_name_or_path: Name of the teacher.
        tokenizer_name_or_path: Name of the tokenizer that encoded the records.
        top_k: Tokens kept of each distribution.
        tail_samples: Tokens drawn from the rest of each, which make the forward KL unbiased; a served teacher has 0.
        temperature: Temperature of the distributions.
        path_consistency: Whether the similarities between steps are kept.
        max_length: Longer records are left out.
        vocab_size: Ids that teacher and student share.
        rows_per_shard: Records in a file.
    """

    teacher_model_name_or_path: str
    tokenizer_name_or_path: str
    top_k: int = 32
    temperature: float = 1.0
    path_consistency: bool = False
    max_length: int = 4096
    vocab_size: int = 0
    rows_per_shard: int = 1000
    tail_samples: int = 8

    def __post_init__(self) -> None:
        if self.tail_samples < 0:
            raise ValueError(f"tail_samples must be at least 0, got {self.tail_samples}.")
        if not 1 <= self.top_k <= self.vocab_size:
            raise ValueError(f"top_k must be between 1 and the vocabulary's {self.vocab_size} ids, got {self.top_k}.")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}.")
