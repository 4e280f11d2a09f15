"""Records to training rows: encode, limit the length, pack; the span columns stay aligned throughout."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hf_reason.data.record import RECORD_FIELDS
from hf_reason.text import spans
from hf_reason.text.collator import IMAGE_COLUMNS
from hf_reason.text.multimodal import is_processor
from hf_reason.text.spans import CHOICE_IDS, DOMAIN_IDS, SPAN_COLUMNS, TASK_IDS, encode
from hf_reason.trainers.loss_terms.tasks import TaskTable
from hf_reason.trainers.sampling.difficulty import check_rates
from hf_reason.trainers.sampling.domains import domain_id

from .image_data import WithImages, image_features, undecoded
from .length_limit import TOKEN_COLUMNS, LengthReport, limit_length
from .modes import with_modes_apart
from .packing import pack_rows

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedTokenizerBase

    from .cot_sft_config import CoTSFTConfig

logger = logging.getLogger(__name__)

# How often a problem is not solved, in percent, at each token of its row; gone once the order of training is known.
UNSOLVED = "unsolved_percent"

# One of these columns, or the text column, makes a data set one of TRL's formats.
_TRL_COLUMNS = {"prompt", "messages", "conversations", "input_ids"}


def is_record_dataset(columns: list[str]) -> bool:
    """Whether a data set holds records (rather than text, messages or tokens in one of TRL's formats)."""
    return {"context", "steps", "answer"} <= set(columns) and "input_ids" not in columns


@dataclass
class AddedColumns:
    """Columns that hold a token's domain and task, and how hard its problem is.

    Attributes:
        domains: Whether the domain is wanted.
        tasks: The tasks, if there are any.
        rates: How often the problem of each record is solved, by the record's id.
    """

    domains: bool = False
    tasks: TaskTable | None = None
    rates: Mapping[str, float] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        rated = (UNSOLVED,) * (self.rates is not None)
        return (DOMAIN_IDS,) * self.domains + (TASK_IDS, CHOICE_IDS) * (self.tasks is not None) + rated

    def of(self, record: Mapping[str, Any], encoded: Mapping[str, list[int]]) -> dict[str, list[int]]:
        """The columns of a record."""
        columns = {DOMAIN_IDS: [domain_id(record.get("domain"))] * len(encoded["input_ids"])} if self.domains else {}
        if self.rates is not None:
            unsolved = 1 - self.rates.get(str(record.get("id")), 0.5)
            columns[UNSOLVED] = [round(100 * unsolved)] * len(encoded["input_ids"])
        return columns | (self.tasks.columns(record, encoded) if self.tasks is not None else {})


def check_fields(record: Mapping[str, Any]) -> None:
    """Refuse a record whose fields are not of their types, as rows that were not made by `prepare` may be.

    Raises:
        ValueError: naming the record, the field and its value.
    """
    steps = record["steps"]
    if isinstance(steps, str):
        what = f"steps is one text ({steps[:40]!r}...), not a list of steps"
    elif not isinstance(steps, list | tuple):
        what = f"steps is {_shown(steps)}, not a list of texts (an empty list is a record without a chain)"
    elif (
        wrong := next((n for n, s in enumerate(steps) if not isinstance(s, str) or not s.strip()), None)
    ) is not None:
        what = f"step {wrong + 1} of {len(steps)} is {_shown(steps[wrong])}, not a text"
    elif wrong_field := next((name for name in ("context", "answer") if not isinstance(record[name], str)), None):
        what = f"{wrong_field} is {_shown(record[wrong_field])}, not a text"
    else:
        return
    raise ValueError(
        f"Record {record.get('id', '?')}: {what}. Prepare the data with hf_reason.data.prepare, which finds the steps "
        "of a chain and leaves broken rows out."
    )


def _shown(value: Any) -> str:
    return f"{value!r:.40} ({type(value).__name__})"


def _encode(
    record: Mapping[str, Any],
    tokenizer: "PreTrainedTokenizerBase",
    instructions: Mapping[str, str] | None,
    added: AddedColumns | None,
) -> dict[str, list[int]]:
    check_fields(record)
    encoded = encode(record, tokenizer, instructions=instructions)
    return encoded | (added.of(record, encoded) if added is not None else {})


def encode_records(
    dataset: "Dataset | IterableDataset",
    tokenizer: "PreTrainedTokenizerBase",
    instructions: Mapping[str, str] | None,
    map_kwargs: dict[str, Any],
    added: AddedColumns | None = None,
) -> "Dataset | IterableDataset":
    """Replace the record's columns by the four token columns, and those of `added`.

    With a processor in the tokenizer's place, the columns of images (`hf_reason.text.collator`) as well.
    """
    encode_one: Callable[..., dict[str, Any]] = _encode
    if is_processor(tokenizer):
        dataset, encode_one = undecoded(dataset), WithImages(_encode)
        map_kwargs = {**map_kwargs, "features": image_features((*TOKEN_COLUMNS, *(added.names if added else ())))}
    return dataset.map(
        encode_one,
        fn_kwargs={"tokenizer": tokenizer, "instructions": instructions, "added": added},
        remove_columns=list(dataset.column_names or []),
        **map_kwargs,
    )


def format_of(columns: list[str], name: str, args: "CoTSFTConfig", formatting_func: Any) -> str:
    """`"rows"` that were prepared here before, `"records"`, or one of `"trl"`'s formats.

    Args:
        columns: Of the data set.
        name: Its name, for messages.
        args: The configuration.
        formatting_func: The user's; given, the data set is TRL's.

    Raises:
        ValueError: if it is of another format, or if options do not fit its format.
    """
    if "input_ids" in columns and set(SPAN_COLUMNS) <= set(columns):
        return "rows"
    text_field = {args.dataset_text_field} - set(RECORD_FIELDS)
    trl_columns = sorted((_TRL_COLUMNS | text_field) & set(columns))
    if formatting_func is None and is_record_dataset(columns):
        if trl_columns:
            logger.warning(
                "%s data set: trained as records; the columns %s are not read. Remove context, steps and answer to "
                "train on those instead.",
                name,
                ", ".join(trl_columns),
            )
        refuse_for_records(args)
        return "records"
    if formatting_func is None and not trl_columns:
        raise ValueError(
            f"The {name} data set has columns {columns}: neither records (context, steps, answer) nor one of TRL's "
            "formats. Convert it with hf_reason.data.prepare or `hf-reason prepare`."
        )
    logger.info("%s data set: not records, trained as trl.SFTTrainer does", name)
    if args.completion_only_loss and formatting_func is None and not {"completion", "completion_mask"} & set(columns):
        raise ValueError(
            f"completion_only_loss=True: the {name} data set has columns {columns} and no completion, so the loss "
            "would be on the whole text. Leave it out, convert the data to prompt and completion, or (for messages) "
            "set assistant_only_loss=True."
        )
    if args.overlong in ("split", "error"):
        raise ValueError(
            f"overlong={args.overlong!r} is for records, and the {name} data set is in one of TRL's formats, which "
            "are cut at max_length as truncation_mode says. Leave overlong out, or convert the data with "
            "hf_reason.data.prepare."
        )
    if args.is_weighted:
        raise ValueError(
            f"The {name} data set has columns {columns}, not those of records, so there are no steps, tasks or "
            "domains to weight. Convert it with hf_reason.data.prepare, or leave the weights at 1."
        )
    return "trl"


def refuse_for_records(args: "CoTSFTConfig") -> None:
    """Refuse options of TRL's that have no meaning for records.

    Raises:
        ValueError: naming those that are set.
    """
    options: Any = args.dataset_kwargs or {}
    names = {
        "completion_only_loss=False": args.completion_only_loss is False,
        "assistant_only_loss=True": args.assistant_only_loss,
        f"truncation_mode={args.truncation_mode!r}": args.truncation_mode != "keep_start",
        f"dataset_kwargs={options}": any(options.values()) or "add_special_tokens" in options,
        f"dataset_text_field={args.dataset_text_field!r}": args.dataset_text_field in RECORD_FIELDS,
    }
    found = [name for name, is_set in names.items() if is_set]
    if found:
        raise ValueError(
            f"{', '.join(found)}: records are tokenised here, have their loss on the chain and keep their beginning. "
            "Leave completion_only_loss unset, and assistant_only_loss, truncation_mode, dataset_kwargs and "
            "dataset_text_field at their defaults; or pass a data set in one of TRL's formats."
        )


@dataclass
class RecordPreparation:
    """How a run makes training rows of records.

    Attributes:
        tokenizer: The model's.
        instructions: Template of each domain.
        added: Columns of domains and tasks.
        link: Adds columns with one value a token, which limiting and packing keep. Called with the encoded rows, the
            records, the data set's name, the configuration and arguments for `map`.
        linked_columns: The names of those columns.
        processor: What reads records with images; `None`: they have none.
        reports: What `max_length` did to each data set, filled in here.
    """

    tokenizer: "PreTrainedTokenizerBase"
    instructions: Mapping[str, str]
    added: AddedColumns
    link: Callable[[Any, Any, str, Any, dict[str, Any]], Any]
    linked_columns: tuple[str, ...] = ()
    processor: Any = None
    reports: dict[str, LengthReport] = field(default_factory=dict)

    def __call__(
        self, records: "Dataset | IterableDataset", name: str, args: "CoTSFTConfig", packing: bool
    ) -> "Dataset | IterableDataset":
        """Encode, limit and pack a data set of records.

        Raises:
            ValueError: if the chat template loses the problem or the thought, or asks for records with and without a
                chain by the same prompt, if the data set is streamed and the options need it whole, or if `max_length`
                and the options do not fit together.
        """
        spans.check_round_trip(self.tokenizer)
        is_map = not hasattr(records, "_ex_iterable")
        if name == "train":
            records = with_modes_apart(records, self.tokenizer)
        if self.added.rates is not None and name == "train":
            check_rates(records, self.added.rates)
        if not is_map and (self.added.domains or args.curriculum):
            raise ValueError(
                f"The {name} data set is streamed; domain ratios and a curriculum choose among all examples. Load it "
                "without streaming=True."
            )

        def options(what: str) -> dict[str, Any]:
            return {"num_proc": args.dataset_num_proc, "desc": f"{what} {name} data set"} if is_map else {}

        with args.main_process_first(desc="preparing the data set"):
            reader = self.processor or self.tokenizer
            rows = encode_records(records, reader, self.instructions, options("Encoding"), self.added)
            rows = self.link(rows, records, name, args, options("Preparing"))
            rows = self._limit(rows, name, args, options("Limiting"))
            if packing:
                rows = self._pack(rows, name, args, options("Packing"))
            return rows.shuffle(seed=args.seed) if args.shuffle_dataset else rows

    def _limit(self, rows: Any, name: str, args: "CoTSFTConfig", options: dict[str, Any]) -> Any:
        if args.max_length is None:
            return rows
        whole = IMAGE_COLUMNS if self.processor is not None else ()
        rows, report = limit_length(
            rows,
            args.max_length,
            args.overlong,
            name,
            options,
            self.tokenizer,
            args.overlap_steps,
            self.added.names,
            whole,
        )
        if report is not None:
            self.reports[name] = report
            if report.overlong:
                outcome = report.outcome(args.overlong)
                logger.warning("%s data set: %s, max_length=%d: %s", name, report, args.max_length, outcome)
        return rows

    def _pack(self, rows: Any, name: str, args: "CoTSFTConfig", options: dict[str, Any]) -> Any:
        if args.max_length is None:
            raise ValueError("Packing needs a max_length: the length of a packed row.")
        rows = rows.select_columns([*TOKEN_COLUMNS, *self.linked_columns, *self.added.names])
        seed = args.seed if args.shuffle_dataset else None
        by_domain = self.added.domains and name == "train"
        return pack_rows(rows, args.max_length, args.packing_strategy, seed, by_domain, options)
