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
_OF_CAPTIONER = ("captioner_served_model", "caption_cache", "caption_prompt")


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
    captions: float | None = option(
        None, "Fraction of the training records with images that get a copy whose images are described in the problem."
    )
    captioner_model_name_or_path: str | None = option(
        None, "Model that describes images: folder, Hub name, or URL of a server. Default: the data's own captions."
    )
    captioner_served_model: str | None = option(None, "Server: the captioner's name there. Default: its first.")
    caption_cache: str | None = option(None, "Folder of the descriptions. Default: in output_dir.")
    caption_prompt: str | None = option(None, "What a captioner is asked. Default: for all text and numbers.")
    broken_images: str = option(
        "drop", "A record with an image that cannot be read: drop it, or keep it.", choices=("drop", "keep")
    )
    translator_model_name_or_path: str | None = option(
        None, "Translation or chat model: folder, Hub name, or URL of an OpenAI-compatible server."
    )
    back_translator_model_name_or_path: str | None = option(
        None, "Another translator for the way back, as translation models of one direction need. Default: the same."
    )
    translation_cache: str | None = option(None, "Folder of the translations. Default: in output_dir.")
    temperature: float = option(0.0, "Chat model: sampling temperature; 0 is greedy.")
    max_completion_length: int = option(512, "Longest translation of a step, or description, in tokens.")
    batch_size: int = option(16, "Local model: texts or images at once.")
    num_beams: int = option(4, "Local translation model or captioner: beams of the search.")
    tokenizer_name_or_path: str | None = option(None, "Local translator: tokenizer. Default: its own.")
    dtype: str = option("auto", "Local model: type of the weights: auto, float32, bfloat16, ...")
    trust_remote_code: bool = option(False, "Local model: run code that comes with it.")
    use_cpu: bool = option(False, "Local model: do not use an accelerator.")
    translator_served_model: str | None = option(None, "Server: the model's name there. Default: its first.")
    timeout: float = option(120.0, "Server: seconds without an answer.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.distractor_kinds = as_list(self.distractor_kinds)
        names = ("distractors", "step_pairs", "back_translation", "captions")
        asked = [name for name in names if getattr(self, name) is not None]
        if not asked:
            raise ValueError(
                "nothing is to be done. Give a fraction for distractors, step_pairs, back_translation or captions, "
                "such as 0.5."
            )
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} is a fraction of the records, above 0 and at most 1; got {value}.")
        for name in ("pairs_per_record", "max_completion_length", "batch_size", "num_beams"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.captions_everywhere and asked != ["captions"]:
            raise ValueError(
                "captions=1 with replace makes text of all records, and other operations would copy records with "
                "images beside it. Run it alone, and the others on its result."
            )
        self._check_unused()

    @property
    def captions_everywhere(self) -> bool:
        """Whether no image is to be left, in validation and test neither."""
        return self.captions == 1 and self.replace

    def _check_unused(self) -> None:
        """Refuse options that would have no effect.

        Raises:
            ValueError: for them, or for a translator that is missing.
        """
        if self.back_translation is not None and self.translator_model_name_or_path is None:
            raise ValueError("back_translation needs a translator: give translator_model_name_or_path.")
        served = [self.served(name) for name in self.models]
        captioner = self.captioner_model_name_or_path
        only_captions = self.back_translation is None
        checks = (
            (self.distractors is None, _OF_DISTRACTORS, "distractors is not given"),
            (self.step_pairs is None, _OF_PAIRS, "step_pairs is not given"),
            (self.captions is None, ("captioner_model_name_or_path", "broken_images"), "captions is not given"),
            (captioner is None, _OF_CAPTIONER, "there is no captioner_model_name_or_path"),
            (
                only_captions,
                ("translator_model_name_or_path", *_OF_TRANSLATOR[:2], "translator_served_model"),
                "back_translation is not given",
            ),
            (only_captions, ("tokenizer_name_or_path",), "back_translation is not given"),
            (not self.models, (*_OF_TRANSLATOR[2:], *_SERVED, *_LOCAL), "no model translates or describes"),
            (not any(served), _SERVED, "no model is a server (http:// or https://)"),
            (all(served), _LOCAL, "the model is a server"),
            (
                captioner is None or not self.served(captioner),
                ("captioner_served_model",),
                "the captioner is no server (http:// or https://)",
            ),
            (only_captions and not any(served), ("temperature",), "a captioner in this process does not sample"),
        )
        for unused, names, why in checks:
            if unused:
                refuse_unused(self, names, why)

    @property
    def translators(self) -> list[str]:
        """The translators: there, and back if it is another one."""
        names = (self.translator_model_name_or_path, self.back_translator_model_name_or_path)
        return [name for name in names if name is not None]

    @property
    def models(self) -> list[str]:
        """The translators and the captioner."""
        captioner = self.captioner_model_name_or_path
        return [*self.translators, *([] if captioner is None else [captioner])]

    @staticmethod
    def served(name: str) -> bool:
        """Whether a translator is behind a server."""
        return "://" in name
