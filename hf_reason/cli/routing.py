"""LoAR in the recipes: its arguments, and putting it on a model that is to be trained or that was saved with one."""

from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm.auto import tqdm

from hf_reason._options import parsed_option
from hf_reason.text import encode

from .datasets import as_trained
from .resume import last_checkpoint
from .round_data import first_of_each

if TYPE_CHECKING:
    from datasets import Dataset

    from .runner import TrainingRun


@dataclass
class RoutingArguments:
    """How `recipes/loar.py` routes the attention."""

    budget: str = field(
        default="0.75", metadata={"help": "Share of the key/value groups that work, or their number a layer: 4,4,3,2."}
    )
    shared_groups: int = field(default=1, metadata={"help": "Groups that always work."})
    static_groups: str | None = field(
        default=None, metadata={"help": "JSON: the groups that work in each layer, without a router: [[0, 1], ...]."}
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
    anneal_share: float = field(default=0.1, metadata={"help": "Share of the run in which the budget falls."})
    calibration_records: int = field(
        default=64,
        metadata={"help": "Training records on which the groups' worth is measured, where routers start; 0: chance."},
    )
    search_records: int = field(
        default=0,
        metadata={"help": "Validation records for a search of the layers' budgets before the training; 0: none."},
    )

    def __post_init__(self) -> None:
        self.budget = str(self.budget)
        self.loar_window_layers = str(self.loar_window_layers)

    def apply(self, model: Any, tokenizer: Any) -> Any:
        """Put LoAR on a model; one that was saved with a LoAR keeps that, whatever the arguments say."""
        if hasattr(model, "loar"):
            if PartialState().is_main_process:
                print(f"The model has a LoAR of its own, which is trained on: budgets {model.loar.budgets}.")
            return model.loar
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


def prepare_routing(trainer: Any, run: "TrainingRun", routing: RoutingArguments, fresh: bool) -> None:
    """Before the training: routers that start from the groups' worth, and the search of the layers' budgets.

    Every process does it alike: examples and seeds are the same. A run that goes on has both in its checkpoint.

    Args:
        trainer: With the routed model.
        run: For its records.
        routing: The numbers of records.
        fresh: Whether the routers are new.
    """
    from hf_reason.models.loar import calibrate_routers, search_budgets
    from hf_reason.models.loar.model import loar_of

    model = trainer.accelerator.unwrap_model(trainer.model)
    loar, tokenizer, main = loar_of(model), trainer.processing_class, trainer.is_world_process_zero()
    if loar is None or loar.routers is None or trainer.args.resume_from_checkpoint:
        return
    if last_checkpoint(trainer.args.output_dir) is not None:
        return

    def examples(records: "Dataset", count: int) -> list[dict[str, Any]]:
        few = as_trained(first_of_each(records, -(-count // len(set(records["domain"])))), run.data.thinking)
        assert few is not None
        return [encode(record, tokenizer, instructions=run.instructions) for record in few]

    if routing.calibration_records > 0 and fresh:
        few = examples(run.train, routing.calibration_records)
        worth = calibrate_routers(model, few, progress=partial(tqdm, desc="groups' worth, layers", disable=not main))
        if main:
            print(f"What each group is worth on {len(few)} records (rise of the loss without it), by layer:")
            print(
                "\n".join(f"  {layer}: " + " ".join(f"{rise:.4f}" for rise in row) for layer, row in enumerate(worth))
            )
    if routing.search_records > 0:
        few = examples(run.train if run.validation is None else run.validation, routing.search_records)
        progress = partial(tqdm, desc="search of budgets", disable=not main)
        result = search_budgets(model, few, seed=trainer.args.seed, progress=progress)
        # the processes' sums may differ in the last digit, and with it the choice
        found = broadcast_object_list([loar.budgets, loar.window_layers])
        loar.set_budgets(found[0])
        if loar.config.sliding_window is not None:
            loar.set_window_layers(found[1])
        if main:
            print(f"Search of budgets on {len(few)} records: {result}")
