"""The model card: what a model is, how it was measured, on which data and with which settings it was trained.

    text = build_model_card(model_name="me/my-reasoner", results=evaluate_model(...))

Sections without data are left out. The metadata is the Hub's own (`huggingface_hub.ModelCardData`), checked by reading
the finished card back.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_reason._files import write_atomically
from hf_reason.evaluation.report import Results
from hf_reason.evaluation.result import EvaluationResult
from hf_reason.version import __version__

from .sections import (
    accuracy_with_interval,
    code_span,
    data_tables,
    escape_cell,
    limitations_of,
    markdown_table,
    measured,
    one_line,
    plot,
    result_columns,
    results_tables,
    settings_table,
)

# Fills every card that is given no other template.
TEMPLATE = Path(__file__).with_name("template.md")
TAGS = ("reasoning", "chain-of-thought", "chinese", "hf_reason")
# These go into the metadata, where the Hub's pages and searches find them.
_INDEXED = ("answer_accuracy", "step_accuracy", "key_node_coverage", "close_rate", "distractor_resistance")
_USAGE = """\
{imports}

model = {loader}.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")

messages = [{{"role": "user", "content": "一个果园有苹果树36行,每行12棵,一共有多少棵?"}}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens=512)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))"""

_WHOLE = {"imports": "from transformers import AutoModelForCausalLM, AutoTokenizer", "loader": "AutoModelForCausalLM"}
# transformers' own class leaves out weights of some PEFT methods
_ADAPTER = {
    "imports": "from peft import AutoPeftModelForCausalLM\nfrom transformers import AutoTokenizer",
    "loader": "AutoPeftModelForCausalLM",
}


def build_model_card(
    template: str | os.PathLike[str] | None = None,
    *,
    model_name: str,
    base_model: str | None = None,
    language: str | Sequence[str] = "zh",
    license: str | None = None,
    datasets: Sequence[str] = (),
    datasets_info: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    results: Results | Sequence[Results] | None = None,
    eval_dataset: str = "held-out records",
    plots: Sequence[str] = (),
    usage: str | None = None,
    adapter: bool = False,
    limitations: Sequence[str] = (),
    compression: Mapping[str, Any] | None = None,
) -> str:
    """The text of a model card, metadata included.

    Args:
        template: File of a jinja2 template of one's own, with the fields of `template.md` beside this module, which
            is the default.
        model_name: Name on the Hub ("user/name") or any other name.
        base_model: What training started from; None: from scratch. Of a local folder only the name is shown.
        language: Hub language codes.
        license: Hub licence identifier, for example "apache-2.0".
        datasets: Data sets trained on; those with a name of the Hub's form also go into the metadata.
        datasets_info: The `report.json` of the preparation.
        settings: Training settings to show, name -> value, of every kind (trainer, LoRA, LoAR, replay). Give those
            that were set and differ from their default; unset ones (`None`) get no row.
        results: What `evaluate_model` returns; a sequence of these for several training seeds of the same recipe (the
            card then gives mean, lowest and highest); or name -> results for models side by side, of which the first
            is this one.
        eval_dataset: What the results were measured on.
        plots: PNG files relative to the card, "/" between folders.
        usage: Python that loads the model; default: transformers' Auto classes and the chat template.
        adapter: Whether the model is an adapter, which PEFT loads.
        limitations: Sentences (Markdown), shown after those that follow from the data.
        compression: Of a compressed model: `rows` (figure, before, after; the first row is the header), and `notes`,
            sentences below them.

    Raises:
        ValueError: a plot is not a relative path, or the results are not those of `evaluate_model`.
        jinja2.UndefinedError: the template asks for something that is not given here.
    """
    from huggingface_hub import ModelCard
    from jinja2 import Environment, StrictUndefined

    columns, seeds = result_columns(results)
    main = next(iter(columns.values()), None)
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined, autoescape=False)
    metadata = _metadata(model_name, base_model, language, license, datasets, main, eval_dataset)
    source = Path(template or TEMPLATE).read_text(encoding="utf-8")
    text = environment.from_string(source).render(
        metadata=metadata,
        title=escape_cell(model_name),
        summary=_summary(base_model, datasets, eval_dataset, main, seeds),
        summary_zh=_summary_zh(main),
        usage=usage or _USAGE.format(name=_place(model_name), **(_ADAPTER if adapter else _WHOLE)),
        measured=measured(main, seeds, eval_dataset) if main else "",
        results=results_tables(columns) if main else None,
        plots=[plot(name) for name in plots] if main else [],
        data=data_tables(datasets_info) if datasets_info else None,
        settings=settings_table(settings or {}),
        settings_title="Compression settings" if compression else "Training",
        compression=None
        if compression is None
        else {"table": markdown_table(compression["rows"][0], compression["rows"][1:]), "notes": compression["notes"]},
        limitations=[*limitations_of(main, seeds), *limitations],
        template_hash=main.template_hash if main else None,
        version=__version__,
    )
    ModelCard(text)  # raises if the metadata cannot be read back
    return text.rstrip() + "\n"


def write_model_card(
    path: str | os.PathLike[str], template: str | os.PathLike[str] | None = None, **fields: Any
) -> Path:
    """`build_model_card` into a file (usually README.md of the model), there whole or not at all; returns its path."""
    target = Path(path)
    text = build_model_card(template, **fields)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, text)
    return target


def _metadata(
    model_name: str,
    base_model: str | None,
    language: str | Sequence[str],
    license: str | None,
    datasets: Sequence[str],
    main: EvaluationResult | None,
    eval_dataset: str,
) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    figures = {name: main[name] for name in _INDEXED if main[name] is not None} if main else {}
    evaluated = [
        EvalResult(
            task_type="text-generation",
            dataset_type=_hub_name(eval_dataset) or "custom",
            dataset_name=one_line(eval_dataset),
            metric_type=name,
            metric_name=name.replace("_", " ").capitalize(),
            metric_value=round(value, 4),
        )
        for name, value in figures.items()
    ]
    data = ModelCardData(
        language=language if isinstance(language, str) else list(language),
        license=license,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=list(TAGS),
        base_model=_hub_name(base_model),
        datasets=[name for name in datasets if _hub_name(name)] or None,
        metrics=list(figures) or None,
        model_name=one_line(model_name),
        eval_results=evaluated or None,
    )
    return str(data.to_yaml()).strip()


def _place(model_name: str) -> str:
    """Where the model is loaded from: its name on the Hub, or a place for the reader to fill in."""
    return model_name if model_name.count("/") == 1 else f"path/to/{model_name}"


def _hub_name(name: str | None) -> str | None:
    """The name if the Hub could have it: it refuses other values in metadata, and local paths mean nothing there."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if not name or "/" not in name or Path(name).exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name


def _summary(
    base_model: str | None, datasets: Sequence[str], eval_dataset: str, main: EvaluationResult | None, seeds: int
) -> str:
    name = None if base_model is None else _hub_name(base_model) or Path(base_model).name
    start = f"fine-tuned from {code_span(name)}" if name else "trained from scratch"
    text = f"A causal language model that reasons step by step in Chinese, {start}"
    text += f", on {', '.join(map(code_span, datasets))}." if datasets else "."
    if main and main.answer_accuracy is not None:
        mean = f", mean of {seeds} training seeds" if seeds > 1 else ""
        figure = accuracy_with_interval(main, "95% interval")
        text += f" Answer accuracy on {escape_cell(eval_dataset)}: **{figure}**{mean}."
    return text


def _summary_zh(main: EvaluationResult | None) -> str:
    text = "中文摘要:本模型先逐步推理,再给出答案。"
    if main is None or main.answer_accuracy is None:
        return text
    return text + f"答案准确率 {accuracy_with_interval(main, '95% 置信区间')}。"
