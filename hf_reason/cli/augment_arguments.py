"""The arguments of `augment`."""

from dataclasses import dataclass

from hf_reason._options import option, refuse_unused

from .arguments import SourceArguments, as_list
from .server_arguments import SERVER_OPTIONS, ServerArguments

_OF_TRANSLATOR = ("back_translator_model_name_or_path", "translation_cache", "temperature", "max_completion_length")
_OF_PAIRS = ("pairs_per_record",)
_OF_DISTRACTORS = ("distractor_templates", "distractor_kinds")
_SERVED = ("translator_served_model", *SERVER_OPTIONS)
# without use_cpu, which tests and clusters say for every command
_LOCAL = ("batch_size", "num_beams", "tokenizer_name_or_path", "dtype", "trust_remote_code")


@dataclass(kw_only=True)
class AugmentArguments(ServerArguments, SourceArguments):
    """Which records, and what is done with which fraction of them."""

    output_dir: str = option(help="Folder of the augmented data set.")
    seed: int = option(0, "Seed of whatever is random.")
    replace: bool = option(False, "Leave out a record where another one was made of it. Default: both stay.")
    overwrite: bool = option(False, "Replace a result that was made with other settings or records.")
    distractors: float | None = option(None, "Fraction of the training records that get a copy with a distractor.")
    distractor_templates: str = option(
        "train", "Sentences for training, or those of the robustness test.", choices=("train", "test")
    )
    distractor_kinds: list[str] = option(
        help="Numbers that are irrelevant, or wrong values of the problem's numbers. Default: both.",
        default_factory=lambda: ["irrelevant", "wrong"],
    )
    step_pairs: float | None = option(None, "Fraction of the training records of which pairs of steps are made.")
    pairs_per_record: int = option(2, "Most pairs of a record.")
    back_translation: float | None = option(
        None, "Fraction of the training records that get a copy with paraphrased steps."
    )
    translator_model_name_or_path: str | None = option(
        None, "Translation or chat model: folder, Hub name, or URL of an OpenAI-compatible server."
    )
    back_translator_model_name_or_path: str | None = option(
        None, "Another translator for the way back, as translation models of one direction need. Default: the same."
    )
    translation_cache: str | None = option(None, "Folder of the translations. Default: in output_dir.")
    temperature: float = option(0.0, "Chat model: sampling temperature; 0 is greedy.")
    max_completion_length: int = option(512, "Longest translation of a step in tokens.")
    batch_size: int = option(16, "Local translator: texts at once.")
    num_beams: int = option(4, "Local translation model: beams of the search.")
    tokenizer_name_or_path: str | None = option(None, "Local translator: tokenizer. Default: its own.")
    dtype: str = option("auto", "Local translator: type of the weights: auto, float32, bfloat16, ...")
    trust_remote_code: bool = option(False, "Local translator: run code that comes with the model.")
    use_cpu: bool = option(False, "Local translator: do not use an accelerator.")
    translator_served_model: str | None = option(None, "Server: the model's name there. Default: its first.")
    timeout: float = option(120.0, "Server: seconds without an answer.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.distractor_kinds = as_list(self.distractor_kinds)
        if self.distractors is self.step_pairs is self.back_translation is None:
            raise ValueError(
                "nothing is to be done. Give a fraction for distractors, step_pairs or back_translation, such as 0.5."
            )
        for name in ("distractors", "step_pairs", "back_translation"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} is a fraction of the records, above 0 and at most 1; got {value}.")
        for name in ("pairs_per_record", "max_completion_length", "batch_size", "num_beams"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        self._check_unused()

    def _check_unused(self) -> None:
        """Refuse options that would have no effect.

        Raises:
            ValueError: for them, or for a translator that is missing.
        """
        if self.back_translation is not None and self.translator_model_name_or_path is None:
            raise ValueError("back_translation needs a translator: give translator_model_name_or_path.")
        served = [self.served(name) for name in self.translators]
        checks = (
            (self.distractors is None, _OF_DISTRACTORS, "distractors is not given"),
            (self.step_pairs is None, _OF_PAIRS, "step_pairs is not given"),
            (
                self.back_translation is None,
                ("translator_model_name_or_path", *_OF_TRANSLATOR, *_SERVED, *_LOCAL),
                "back_translation is not given",
            ),
            (not any(served), _SERVED, "no translator is a server (http:// or https://)"),
            (all(served), _LOCAL, "the translator is a server"),
        )
        for unused, names, why in checks:
            if unused:
                refuse_unused(self, names, why)

    @property
    def translators(self) -> list[str]:
        """The translators: there, and back if it is another one."""
        names = (self.translator_model_name_or_path, self.back_translator_model_name_or_path)
        return [name for name in names if name is not None]

    @staticmethod
    def served(name: str) -> bool:
        """Whether a translator is behind a server."""
        return "://" in name
