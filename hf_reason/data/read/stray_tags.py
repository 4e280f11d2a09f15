"""Tags that were left in a chain or an answer."""

from .tag_families import PAIRS, TagFamilies
from .tag_places import mentions, speaks_of

# Other names may be markup of a document.
_LEAKED = TagFamilies("think|thinking|thought|answer", PAIRS)


def has_stray_tag(text: str) -> bool:
    """Whether a text has a tag of a thought or an answer left in it that no sentence speaks of."""
    tags = _LEAKED.find(text)
    if not tags:
        return False
    spoken = mentions(text, tags)
    return any(tag not in spoken and not speaks_of(text, tag) for tag in tags)
