"""More data of what is there: distractors, other words, images in words, and pairs of a right and a wrong step."""

from hf_reason._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BackTranslation": ".back_translation",
        "Captions": ".captions",
        "CaptionWriter": ".captioners",
        "ChatTranslator": ".translators",
        "Distractors": ".distractors",
        "LocalCaptioner": ".captioners",
        "ServedCaptioner": ".captioners",
        "StepPairs": ".step_pairs",
        "Seq2SeqTranslator": ".seq2seq",
        "augment": ".run",
        "paraphrase_fault": ".protection",
    },
)
