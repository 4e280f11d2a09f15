"""LoAR in the recipes: its arguments, and putting it on a model that is to be trained or that was saved with one."""

from dataclasses import dataclass, field, fields
from typing import Any

from hf_reason._options import parsed_option


@dataclass
class RoutingArguments:
    """How `recipes/loar.py` routes the attention."""

    budget: str = field(
        default="0.75", metadata={"help": "Share of the key/value groups that work, or their number a layer: 4,4,3,2."}
    )
    shared_groups: int = field(default=1, metadata={"help": "Groups that always work."})
    static_groups: str | None = field(
        default=None,
        metadata={"help": "JSON: the groups that work in each layer, without a router: [[0, 1], ...]."},
    )
    loar_window: int | None = field(default=None, metadata={"help": "Tokens that the window layers see."})
    loar_window_layers: str = field(
        default="shallow_half", metadata={"help": "shallow_half, all, a share (0.25), or numbers (0,1,2)."}
    )
    task_names: list[str] = field(
        default_factory=list, metadata={"help": "Domains with an embedding that steers the router."}
    )
    task_dropout: float = field(default=0.1, metadata={"help": "Share of the sequences whose domain is hidden."})
    balance_weight: float = field(default=0.01, metadata={"help": "Weight of the load-balance term."})
    anneal_share: float = field(default=0.3, metadata={"help": "Share of the run in which the budget falls."})
    search_records: int = field(
        default=0, metadata={"help": "Validation records for a search of the layers' budgets after training; 0: none."}
    )

    def __post_init__(self) -> None:
        self.budget = str(self.budget)
        self.loar_window_layers = str(self.loar_window_layers)

    def apply(self, model: Any, tokenizer: Any) -> Any:
        """Put LoAR on a model; one that was saved with a LoAR keeps that."""
        from hf_reason.models.loar import LoARConfig, apply_loar

        static = None
        if self.static_groups is not None:
            static = parsed_option("static_groups", f'{{"groups": {self.static_groups}}}')["groups"]  # type: ignore[index]
        names = {item.name for item in fields(LoARConfig)} & {item.name for item in fields(self)}
        values = {name: getattr(self, name) for name in names}
        config = LoARConfig(
            **{
                **values,
                "budget": _numbers(self.budget, "budget"),
                "static_groups": static,
                "sliding_window": self.loar_window,
                "window_layers": _layers(self.loar_window_layers),
            }
        )
        return apply_loar(model, config.set_prompt_end(tokenizer))


def _numbers(text: str, name: str) -> float | list[int]:
    try:
        return [int(part) for part in text.split(",")] if "," in text else float(text)
    except ValueError as error:
        raise ValueError(f"{name}={text!r} is neither a share nor a list of numbers (4,4,3,2).") from error


def _layers(text: str) -> str | float | list[int]:
    if text in ("shallow_half", "all"):
        return text
    found = _numbers(text, "loar_window_layers")
    return [int(text)] if text.isdigit() else found


def with_saved_loar(model: Any, name: str) -> Any:
    """The model, with the LoAR that was saved beside it, if there is one."""
    from hf_reason.models.loar import LoAR, has_loar

    if has_loar(name):
        LoAR.from_pretrained(model, name)
    return model


def search_after_training(trainer: Any, run: Any, records: int) -> None:
    """Search the layers' budgets on validation (else training) records, and say what came of it."""
    from hf_reason.models.loar import search_budgets
    from hf_reason.text import encode

    if records < 1:
        return
    source = run.validation if run.validation is not None else run.train
    chosen = source.select(range(min(records, len(source))))
    examples = [encode(record, trainer.processing_class, instructions=run.instructions) for record in chosen]
    # every process searches alike: the examples, the seed and so the result are the same
    result = search_budgets(trainer.accelerator.unwrap_model(trainer.model), examples, seed=trainer.args.seed)
    if trainer.is_world_process_zero():
        print(f"Search of budgets on {len(examples)} records: {result}")
