"""Domains: which of the eight a problem belongs to, by the source's own name for it or by words in the text."""

import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from hf_reason.answers.traditional import simplified
from hf_reason.data.record import DOMAINS, DataError

_BUILT_IN = Path(__file__).with_name("domains.yaml")
# The one written in C takes a tenth of the time; it is not in every build of PyYAML.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LATIN = re.compile(r"[a-z][a-z0-9+#'-]*")
_LATEX_COMMAND = re.compile(r"\\[a-z]+")
_MAX_COUNT = 3
# A title or a sentence in quotation marks has words of its own ("The Fault in Our Stars" is no astronomy).
_QUOTED = re.compile(r'"[^"\n]{1,300}"|“[^”\n]{1,300}”|「[^」\n]{1,300}」|《[^》\n]{1,100}》')
_WEIGHT_QUOTED = 0.5
_MAX_PHRASE = 4
# Enough to decide; a longer text does not make a domain clearer.
_MAX_TEXT = 4000
_CHAIN_FACTOR = 4
_TOP_KEYS = ("domains", "aliases", "min_score", "only_with_numbers")
# Words of a lower weight are common ones; see `only_with_numbers`.
_COMMON = 3
_ANY_NUMBER = re.compile(
    r"\d|[二两三四五六七八九十百千万][个只本元块米斤倍人天年岁次种]|\b(?:two|three|four|five|six|seven|eight|nine|ten)\b"
)
_HINT_PARTS = re.compile(r"[/,;:|>()\-_\s、，；：]+")


class DomainTagger:
    """Says which domain a text belongs to.

    Each word of the rules found in the text adds its weight to its domain (up to three times), each pattern
    once. The highest score wins; below `min_score`, or with two domains at the top, the text is general. Traditional
    Chinese is read as simplified.

    Args:
        rules: A YAML file that replaces the built-in rules (`domains.yaml` beside this module shows the form), or
            `None`.

    Raises:
        DataError: the file is missing, no YAML, or not of that form; the message names the file and the key.
    """

    def __init__(self, rules: str | Path | None = None):
        self._path = Path(rules) if rules is not None else _BUILT_IN
        data = self._load()
        self._only_with_numbers = frozenset(self._strings("only_with_numbers", data.get("only_with_numbers", [])))
        self._min_score = data.get("min_score", 1)
        if isinstance(self._min_score, bool) or not isinstance(self._min_score, int | float):
            raise self._error("min_score", "must be a number")
        # What each word says, and the Chinese ones by their first two characters (one-character words by that one,
        # and below each two that begin with it), longest first.
        self._weights: dict[str, list[tuple[str, float]]] = {}
        self._chinese: dict[str, list[str]] = {}
        self._patterns: list[tuple[re.Pattern[str], str, float]] = []
        self._phrase_starts: set[str] = set()
        self._aliases = {domain: domain for domain in DOMAINS}
        for domain, entry in self._section(data, "domains").items():
            self._add_domain(domain, entry)
        self._index_chinese()
        for domain, names in self._section(data, "aliases").items():
            for name in self._strings(f"aliases.{domain}", names):
                self._aliases[_plain(name)] = domain

    def tag(self, text: str, hint: str | None = None, chain: str = "") -> str:
        """One of `DOMAINS`.

        Args:
            text: The problem; its first 4,000 characters are read.
            hint: The source's own name for the domain. Decides alone if it is a known name, or has exactly one
                known name in it (`"Math/Algebra"`); else it is ignored.
            chain: The steps and the answer. Used with a problem that says nothing by itself; the score must then
                reach four times `min_score`, since a chain touches on many subjects.
        """
        named = self._from_hint(hint) if hint else None
        if named is not None:
            return named
        domain = self._from_text(text, self._min_score)
        if domain == "general" and chain:
            return self._from_text(f"{text}\n{chain}", _CHAIN_FACTOR * self._min_score)
        return domain

    def _from_hint(self, hint: str) -> str | None:
        known = self._aliases.get(_plain(hint))
        if known is not None:
            return known
        parts = {self._aliases[part] for part in _HINT_PARTS.split(_plain(hint)) if part in self._aliases}
        return parts.pop() if len(parts) == 1 else None

    def _from_text(self, text: str, least: float) -> str:
        text = simplified(text[:_MAX_TEXT])
        lowered = unicodedata.normalize("NFKC", text).lower()
        scores = dict.fromkeys(DOMAINS, 0.0)
        numbers = _ANY_NUMBER.search(lowered) is not None
        words = self._count_words(lowered)
        if _QUOTED.search(lowered):
            outside = self._count_words(_QUOTED.sub(" ", lowered))
            weighed = {word: outside[word] + _WEIGHT_QUOTED * (count - outside[word]) for word, count in words.items()}
        else:
            weighed = dict(words)
        for word, count in weighed.items():
            for domain, weight in self._weights[word]:
                if numbers or weight >= _COMMON or domain not in self._only_with_numbers:
                    scores[domain] += weight * min(count, _MAX_COUNT)
        for pattern, domain, weight in self._patterns:
            if pattern.search(text):
                scores[domain] += weight
        best, second = sorted(DOMAINS, key=lambda domain: -scores[domain])[:2]
        return best if scores[best] >= least and scores[best] > scores[second] else "general"

    def _count_words(self, text: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        end = 0
        for match in self._chinese_start.finditer(text):
            at = match.start()
            if at < end:  # inside the word before
                continue
            words = self._chinese.get(text[at : at + 2]) or self._chinese.get(text[at]) or []
            for word in words:
                if text.startswith(word, at):
                    counts[word] += 1
                    end = at + len(word)
                    break
        self._count_latin(_tokens(text), counts)
        return counts

    def _count_latin(self, tokens: list[str], counts: Counter[str]) -> None:
        at = 0
        while at < len(tokens):
            size, word = 1, self._known_latin(tokens[at])
            if tokens[at] in self._phrase_starts:
                for longer in range(min(_MAX_PHRASE, len(tokens) - at), 1, -1):
                    phrase = self._known_latin(" ".join(tokens[at : at + longer]))
                    if phrase:
                        size, word = longer, phrase
                        break
            if word:
                counts[word] += 1
            at += size

    def _known_latin(self, word: str) -> str:
        """The rule's form of a word, with or without a plural s; empty if there is none."""
        if word in self._weights:
            return word
        return word[:-1] if word[-1:] == "s" and word[:-1] in self._weights else ""

    def _add_domain(self, domain: str, entry: Any) -> None:
        where = f"domains.{domain}"
        if not isinstance(entry, dict) or set(entry) - {"words", "patterns"}:
            raise self._error(where, "must have `words` and may have `patterns`, nothing else")
        for weight, words in self._weighted(f"{where}.words", entry.get("words", {})):
            for word in words:
                word = simplified(unicodedata.normalize("NFKC", word)).lower().strip()
                if not word:
                    raise self._error(f"{where}.words", "has an empty word")
                word = _spaced(word) if word.isascii() else word
                self._weights.setdefault(word, []).append((domain, weight))
                if word.isascii() and " " in word:
                    self._phrase_starts.add(word.split()[0])
        for weight, patterns in self._weighted(f"{where}.patterns", entry.get("patterns", {})):
            for pattern in patterns:
                try:
                    self._patterns.append((re.compile(pattern), domain, weight))
                except re.error as error:
                    raise self._error(
                        f"{where}.patterns", f"{pattern!r} is not a regular expression: {error}"
                    ) from error

    def _index_chinese(self) -> None:
        words = sorted((word for word in self._weights if not word.isascii()), key=len, reverse=True)
        for word in words:
            self._chinese.setdefault(word[:2], []).append(word)
        single = [word for word in words if len(word) == 1]
        for key, found in self._chinese.items():
            if len(key) == 2 and key[0] in single:
                found.append(key[0])
        # Where a word may begin: its first character, with a second one behind it.
        first, second, alone = (
            "".join(sorted(map(re.escape, chars)))
            for chars in ({key[0] for key in words}, {key[1] for key in words if len(key) > 1}, set(single))
        )
        behind = [f"(?=[{second}])"] * bool(second) + [f"(?<=[{alone}])"] * bool(alone)
        self._chinese_start = re.compile(f"[{first}](?:{'|'.join(behind)})" if first else "(?!)")

    def _load(self) -> dict[str, Any]:
        try:
            data = yaml.load(self._path.read_text(encoding="utf-8"), Loader=_LOADER)
        except OSError as error:
            raise DataError(f"{self._path}: cannot read the domain rules ({error.strerror or error}).") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise DataError(f"{self._path}: the domain rules are not valid YAML: {error}") from error
        if not isinstance(data, dict) or "domains" not in data:
            raise self._error("domains", "is missing; it maps each domain to its words")
        unknown = sorted(map(str, set(data) - set(_TOP_KEYS)))
        if unknown:
            raise self._error(unknown[0], f"is not a key of the rules; they have {', '.join(_TOP_KEYS)}")
        return data

    def _section(self, data: dict[str, Any], name: str) -> dict[str, Any]:
        section = data.get(name) or {}
        if not isinstance(section, dict):
            raise self._error(name, "must map domains to entries")
        for domain in section:
            if domain not in DOMAINS:
                raise self._error(f"{name}.{domain}", f"is not a domain; the domains are {', '.join(DOMAINS)}")
        return section

    def _weighted(self, where: str, groups: Any) -> list[tuple[float, list[str]]]:
        """`{weight: [word, ...]}`; a plain list has weight 1."""
        if isinstance(groups, list):
            groups = {1: groups}
        if not isinstance(groups, dict):
            raise self._error(where, "must be a list, or map weights to lists")
        for weight in groups:
            if isinstance(weight, bool) or not isinstance(weight, int | float) or weight <= 0:
                raise self._error(f"{where}.{weight}", "must be a positive weight")
        return [(weight, self._strings(f"{where}.{weight}", words)) for weight, words in groups.items()]

    def _strings(self, where: str, values: Any) -> list[str]:
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self._error(where, "must be a list of strings; put numbers and yes/no in quotes")
        return values

    def _error(self, key: str, problem: str) -> DataError:
        return DataError(f"{self._path}: {key} {problem}.")


def _tokens(text: str) -> list[str]:
    """Words in Latin letters, without a possessive s; commands of LaTeX are none."""
    if "\\" in text:
        text = _LATEX_COMMAND.sub(" ", text)
    return [token.removesuffix("'s").rstrip("'-") for token in _LATIN.findall(text.replace("’", "'"))]


def _spaced(word: str) -> str:
    """A rule's word as its tokens with a space between them; `word` itself if it has numbers in it."""
    tokens = _tokens(word)
    return word if re.search(r"(?<![a-z])\d", word) or not tokens else " ".join(tokens)


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").replace("&", "and").split())
