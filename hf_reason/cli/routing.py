"""LoAR in a training run: putting it on a model that is to be trained or that was saved with one."""

from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from tqdm.auto import tqdm

from hf_reason._options import parsed_option
from hf_reason.cli.inputs.datasets import as_trained, first_of_each
from hf_reason.text import encode
from hf_reason.trainers.resuming import last_checkpoint

from .arguments import RoutingArguments

if TYPE_CHECKING:
    from datasets import Dataset

    from .runner import TrainingRun


def apply_routing(routing: RoutingArguments, model: Any, tokenizer: Any) -> bool:
    """Put LoAR on a model; one that was saved with a LoAR keeps that, whatever the arguments say.

    Returns:
        Whether the routers are new.
    """
    if hasattr(model, "loar"):
        if PartialState().is_main_process:
            print(f"The model has a LoAR of its own, which is trained further: budgets {model.loar.budgets}.")
        return False
    from hf_reason.models.loar import LoARConfig, apply_loar

    static = None
    if routing.static_groups is not None:
        static = parsed_option("static_groups", f'{{"groups": {routing.static_groups}}}')["groups"]  # type: ignore[index]
    names = {item.name for item in fields(LoARConfig)} & {item.name for item in fields(routing)}
    values: dict[str, Any] = {name: getattr(routing, name) for name in names}
    config = LoARConfig(
        **{
            **values,
            "budget": _budget(routing.budget),
            "static_groups": static,
            "sliding_window": routing.loar_window,
            "window_layers": routing.loar_window_layers,
        }
    )
    apply_loar(model, config.set_prompt_end(tokenizer))
    return True


def _budget(text: str) -> float | list[int]:
    try:
        return [int(part) for part in text.split(",")] if "," in text else float(text)
    except ValueError as error:
        raise ValueError(f"budget={text!r} is neither a ratio nor a list of numbers (4,4,3,2).") from error


def prepare_routing(trainer: Any, run: "TrainingRun", routing: RoutingArguments, fresh: bool) -> None:
    """Before the training: routers that start from what is worth most, and the search of the layers' budgets.

    Every process does it alike: examples and seeds are the same. A resumed run has both in its checkpoint.

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

    unit = loar.config.grain.removesuffix("s")
    runs = routing.search_records > 0 or routing.calibration_records > 0 and fresh
    if runs and any(hasattr(parameter, "ds_numel") for parameter in model.parameters()):
        raise ValueError(
            "the calibration and the search of budgets run the whole model, which ZeRO-3 has cut: use ZeRO-2 "
            "(--accelerate_config zero2_offload), or set --calibration_records 0 and --search_records 0."
        )

    def examples(records: "Dataset", count: int) -> list[dict[str, Any]]:
        few = as_trained(first_of_each(records, -(-count // len(set(records["domain"])))), run.data.thinking)
        assert few is not None
        return [encode(record, tokenizer, instructions=run.instructions) for record in few]

    if routing.calibration_records > 0 and fresh:
        few = examples(run.splits.train, routing.calibration_records)
        worth = calibrate_routers(model, few, progress=partial(tqdm, desc=f"worth of the {unit}s", disable=not main))
        if main:
            how = "increase of the loss without it" if unit == "group" else "size of the gradient at its gate"
            print(f"Importance of each {unit} on {len(few)} records ({how}), by layer:")
            print(
                "\n".join(f"  {layer}: " + " ".join(f"{rise:.4f}" for rise in row) for layer, row in enumerate(worth))
            )
    if routing.search_records > 0:
        few = examples(
            run.splits.train if run.splits.validation is None else run.splits.validation, routing.search_records
        )
        progress = partial(tqdm, desc="search of budgets", disable=not main)
        result = search_budgets(model, few, seed=trainer.args.seed, progress=progress)
        if main:
            print(f"Search of budgets on {len(few)} records: {result}")
    # the processes' sums may differ in the last digit, and with it the choice
    found = broadcast_object_list([loar.budgets, loar.window_layers])
    loar.set_budgets(found[0])
    if loar.config.sliding_window is not None:
        loar.set_window_layers(found[1])
