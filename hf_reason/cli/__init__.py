"""The command line."""

from hf_reason._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ScratchArguments": ".models",
        "check_model_name": ".models",
        "load_model_and_tokenizer": ".models",
        "EvaluationArguments": ".finish",
        "generation_eval": ".finish",
        "finish": ".finish",
        "is_finished": ".resume",
        "last_checkpoint": ".resume",
        "same_settings_or_refuse": ".resume",
        "train_or_go_on": ".resume",
        "DataArguments": ".datasets",
        "load_splits": ".datasets",
        "as_trained": ".datasets",
        "LongContextArguments": ".long_context",
        "StudentArguments": ".students",
        "load_student": ".students",
        "CacheArguments": ".caching",
        "encoded_splits": ".caching",
        "cache_summary": ".caching",
        "ContinualArguments": ".continual",
        "begin_round": ".continual",
        "load_round_model": ".continual",
        "RoutingArguments": ".routing",
        "prepare_routing": ".routing",
        "TrainingRun": ".runner",
        "begin": ".runner",
        "one_line_errors": ".errors",
        "run_in_batches": ".side_by_side",
        "run_side_by_side": ".side_by_side",
    },
)
