"""Steps in other words: there and back through another language, with figures, formulas and the answer protected."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hf_reason._files import digest
from hf_reason.data.languages import detect_language
from hf_reason.data.output_folder import alone_in

from .operation import Made, check_fraction
from .protection import has_prose, marks_kept, paraphrase_fault, protect, restore
from .translators import Progress, Translations, Translator

_PIVOT = {"zh": "en", "en": "zh"}
_CHUNK = 4096


class BackTranslation:
    """Copies of records whose steps are paraphrases: zh -> en -> zh, or en -> zh -> en.

    A paraphrase that loses a figure, or fails another check of `paraphrase_fault`, is thrown away and counted; the
    step stays as it is. A record none of whose steps changes gives none. Context, task and answer are not touched.

    Args:
        translator: From the text's language to the other one.
        cache: Folder of the translations.
        fraction: Of the training records.
        back: The translator of the way back; default: the same.
        progress: See `hf_reason.augment.translators.Progress`.

    Raises:
        ValueError: for a fraction out of range.
    """

    name, file = "back_translation", ""

    def __init__(
        self,
        translator: Translator,
        cache: str | Path,
        fraction: float = 0.3,
        *,
        back: Translator | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.fraction = check_fraction("back_translation", fraction)
        self.cache, self.translators = Path(cache), (translator, translator if back is None else back)
        self.progress = progress
        self.parts: Counter[str] = Counter()

    @property
    def failures(self) -> dict[str, int]:
        """What was said about texts that a translator gave up, and how often."""
        translators = {id(each): each for each in self.translators}
        found: Counter[str] = Counter()
        for each in translators.values():
            found.update(each.failures)
        return dict(found)

    def settings(self) -> dict[str, Any]:
        """What shapes its rows."""
        return {"translator": self.translators[0].identity, "back": self.translators[1].identity}

    def prepare(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Translate the steps of all records, both ways.

        Raises:
            DataError: if another run is writing to the cache.
        """
        with alone_in(self.cache):
            self.there = Translations(self.cache, self.translators[0])
            same = self.translators[0].identity == self.translators[1].identity
            self.back = self.there if same else Translations(self.cache, self.translators[1])
            self._translate_all(records)

    def _translate_all(self, records: Iterable[Mapping[str, Any]]) -> None:
        wanted: dict[str, dict[str, int]] = {"zh": {}, "en": {}}
        for record in records:
            for step in record["steps"]:
                if (found := _protected(step, record["answer"])) is not None:
                    language, text, kept = found
                    wanted[language][text] = len(kept)
                    if len(wanted[language]) >= _CHUNK:
                        self._translate(wanted[language], language)
                        wanted[language].clear()
        for language, texts in wanted.items():
            self._translate(texts, language)

    def _translate(self, texts: Mapping[str, int], language: str) -> None:
        """Both ways for protected texts, given with their numbers of marks."""
        pivot = _PIVOT[language]
        self.there.fill(texts, language, pivot, self.progress)
        ways = {text: self.there.get(text, language, pivot) for text in texts}
        whole = [way for text, way in ways.items() if way and marks_kept(way, texts[text])]
        self.back.fill(whole, pivot, language, self.progress)

    def apply(self, record: Mapping[str, Any], seed: int) -> list[Made] | str:
        """The copy; why there is none."""
        steps, changed = [], 0
        for step in record["steps"]:
            new, said = self._paraphrase(step, record["answer"])
            self.parts[said] += 1
            changed += new is not None
            steps.append(step if new is None else new)
        if not changed:
            return "no step has a usable paraphrase"
        # steps are no part of a record's id
        name = digest("\x1f".join((record["id"], self.name, *steps)))
        return [Made({**record, "id": name, "steps": steps}, f"{changed} of {len(steps)} steps")]

    def _paraphrase(self, step: str, answer: str) -> tuple[str | None, str]:
        if (found := _protected(step, answer)) is None:
            return None, "nothing to translate"
        language, text, kept = found
        pivot = _PIVOT[language]
        there = self.there.get(text, language, pivot)
        if there is None:
            return None, "thrown away: not translated"
        if not marks_kept(there, len(kept)):
            return None, "thrown away: lost figure"
        again = self.back.get(there, pivot, language)
        if again is None:
            return None, "thrown away: not translated"
        new = restore(again, kept)
        fault = "lost figure" if new is None else paraphrase_fault(step, new, answer)
        return (None, f"thrown away: {fault}") if fault else (new, "paraphrases")


def _protected(step: str, answer: str) -> tuple[str, str, list[str]] | None:
    """Language, protected text and what its marks stand for; `None` where there is nothing to translate."""
    text, kept = protect(step, answer)
    if not has_prose(text):
        return None
    language = detect_language(text)
    return (language, text, kept) if language in _PIVOT else None
