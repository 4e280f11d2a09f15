"""A translation model of transformers (an encoder with a decoder) as a translator."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# How the families of multilingual models call the languages: NLLB, mBART-50, M2M-100.
_CODES = {"zh": ("zho_Hans", "zh_CN", "__zh__"), "en": ("eng_Latn", "en_XX", "__en__")}
# How Marian models of several targets are told which one.
_PREFIXES = {"zh": (">>cmn_Hans<<", ">>zho_Hans<<", ">>zh<<", ">>cmn<<"), "en": (">>eng<<", ">>en<<")}


class Seq2SeqTranslator:
    """Translates by beam search.

    Multilingual models (NLLB, mBART-50, M2M-100) are told the languages by their codes, Marian models of several
    targets by a prefix. Any other model has one direction, the one that it was trained for.

    Args:
        model: An encoder-decoder model on its device.
        tokenizer: The model's.
        identity: What tells it from another one.
        batch_size: Texts at once; they are sorted by length.
        num_beams: Of the search.
        max_length: Longest translation in tokens; a longer one is thrown away.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        identity: Mapping[str, Any],
        *,
        batch_size: int = 16,
        num_beams: int = 4,
        max_length: int = 512,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.batch_size, self.num_beams, self.max_length = batch_size, num_beams, max_length
        self.identity = {**identity, "num_beams": num_beams, "max_length": max_length}
        self.failures: dict[str, int] = {}

    def translate(self, texts: Sequence[str], source: str, target: str) -> Iterator[list[tuple[int, str]]]:
        """The index of each text and its translation, a batch at a time; empty for one that was cut.

        Raises:
            ValueError: if a multilingual model does not know a language.
        """
        options = self._languages(source, target)
        prefix = self._prefix(target)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            yield list(zip(rows, self._batch([prefix + texts[row] for row in rows], options), strict=True))

    def _batch(self, texts: list[str], options: Mapping[str, Any]) -> list[str]:
        import torch

        inputs = self.tokenizer(texts, return_tensors="pt", padding=True).to(self.model.device)
        inputs.pop("token_type_ids", None)
        with torch.no_grad():
            found = self.model.generate(
                **inputs, **options, num_beams=self.num_beams, do_sample=False, max_new_tokens=self.max_length
            )
        ends = self.model.generation_config.eos_token_id
        stops = set(ends if isinstance(ends, list) else [ends])
        decoded = self.tokenizer.batch_decode(found, skip_special_tokens=True)
        # the first token may be the end's own, where the decoder begins with it
        whole = [bool(stops & set(row[1:].tolist())) for row in found]
        return [text.strip() if ended else "" for text, ended in zip(decoded, whole, strict=True)]

    def _languages(self, source: str, target: str) -> dict[str, Any]:
        if not hasattr(self.tokenizer, "src_lang"):
            return {}
        codes = []
        for language in (source, target):
            code = next((code for code in _CODES[language] if self._knows(code)), None)
            if code is None:
                raise ValueError(f"The translation model has no code for {language}: none of {_CODES[language]}.")
            codes.append(code)
        self.tokenizer.src_lang = codes[0].strip("_")
        return {"forced_bos_token_id": self.tokenizer.convert_tokens_to_ids(codes[1])}

    def _knows(self, token: str) -> bool:
        found = self.tokenizer.convert_tokens_to_ids(token)
        return found is not None and found != self.tokenizer.unk_token_id

    def _prefix(self, target: str) -> str:
        known = list(getattr(self.tokenizer, "supported_language_codes", None) or ())
        return next((f"{prefix} " for prefix in _PREFIXES[target] if prefix in known), "") if len(known) > 1 else ""
