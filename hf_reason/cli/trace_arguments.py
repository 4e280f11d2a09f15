"""The arguments of `generate-traces`."""

from dataclasses import dataclass, fields

from hf_reason._options import option, refuse_unused
from hf_reason.traces.settings import KEEP, VERIFY_STEPS, TraceSettings

from .arguments import SourceArguments
from .server_arguments import SERVER_OPTIONS, ServerArguments

# Options that mean nothing for the other kind of teacher.
_SERVED = ("teacher_served_model", *SERVER_OPTIONS)
_LOCAL = ("batch_size", "tokenizer_name_or_path", "dtype", "trust_remote_code", "logprobs", "top_k")


@dataclass(kw_only=True)
class GenerateTracesArguments(ServerArguments, SourceArguments):
    """Which teacher answers which problems, and what is kept."""

    teacher_model_name_or_path: str = option(help="Folder or Hub name, or the URL of an OpenAI-compatible server.")
    output_dir: str = option(help="Folder of the traces.")
    split: str = option("train", "Split of prepared data; raw files, with or without chains, are read whole.")
    max_records: int | None = option(None, "Only the first problems.")
    num_samples: int = option(4, "Chains of each problem; raised later, only the further ones are asked for.")
    keep: str = option(
        "correct", "all that were finished, those that are correct, or the shortest_correct.", choices=KEEP
    )
    verify_steps: str = option(
        "equations",
        "What makes a step wrong: none; equations that do not hold; also numbers from nowhere.",
        choices=VERIFY_STEPS,
    )
    prune_steps: bool = option(False, "Leave out calculations that nothing later needs.")
    pairs: int = option(0, "Most pairs of a right and a wrong chain of each problem, for TRL's DPO trainer.")
    logprobs: bool = option(
        False, "Write the distributions of a local teacher on the kept traces, as cache-teacher does."
    )
    top_k: int = option(32, "Tokens kept of each of these distributions.")
    temperature: float | None = option(0.6, "Sampling temperature; null leaves it to a server.")
    top_p: float = option(1.0, "Only the likeliest tokens that together have this probability.")
    seed: int = option(0, "Seed of the samples.")
    max_completion_length: int = option(4096, "Longest output in tokens.")
    instructions: str | None = option(
        None, "YAML with a template for each domain, or 'default': how the teacher is asked."
    )
    batch_size: int = option(16, "Local teacher: chains written at once.")
    tokenizer_name_or_path: str | None = option(None, "Local teacher: tokenizer. Default: its own.")
    dtype: str = option("auto", "Local teacher: type of the weights: auto, float32, bfloat16, ...")
    trust_remote_code: bool = option(False, "Local teacher: run code that comes with the model.")
    use_cpu: bool = option(False, "Local teacher: do not use an accelerator.")
    teacher_served_model: str | None = option(None, "Server: the model's name there. Default: its first.")
    price_per_million_tokens: list[float] | None = option(
        None, "Price of a million tokens of prompts, and of completions, for the cost that is shown."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        prices = self.price_per_million_tokens
        if prices is not None and (len(prices) != 2 or min(prices) < 0):
            raise ValueError(
                "price_per_million_tokens has two prices: of a million tokens of prompts, and of completions."
            )
        if self.max_records is not None and self.max_records < 1:
            raise ValueError(f"max_records must be at least 1, got {self.max_records}.")
        if self.served and self.logprobs:
            raise ValueError(
                "logprobs needs a local teacher: a server's top_logprobs name up to 20 tokens by their text, mostly "
                "without those of the thought, and a cache needs ids at every token of the trace as it is trained. "
                "Make the cache afterwards: hf-reason cache-teacher with the same URL, if it gives prompt_logprobs as "
                "vLLM does."
            )
        self._check_unused()
        self.settings()

    def _check_unused(self) -> None:
        if self.served:
            refuse_unused(self, _LOCAL, "a server is the teacher")
        else:
            refuse_unused(self, _SERVED, "the teacher is no server (http:// or https://)")

    @property
    def served(self) -> bool:
        """Whether the teacher is behind a server."""
        return "://" in self.teacher_model_name_or_path

    def settings(self) -> TraceSettings:
        """How chains are sampled and chosen.

        Raises:
            ValueError: for a value out of range.
        """
        return TraceSettings(**{item.name: getattr(self, item.name) for item in fields(TraceSettings)})
