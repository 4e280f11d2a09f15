"""The model card: metadata the Hub can read, figures that are those of the results, nothing where there is no data."""

import json
from pathlib import Path
from typing import Any

import pytest

from hf_reason.evaluation.model_card.build import build_model_card, write_model_card
from hf_reason.evaluation.model_card.sections import escape_cell, markdown_table


def figures(accuracy: float, records: int = 40, interval: list[float] | None = None) -> dict[str, Any]:
    return {
        "num_records": records,
        "answer_accuracy": accuracy,
        "answer_accuracy_ci": interval or [accuracy - 0.1, accuracy + 0.1],
        "step_accuracy": 0.75,
        "equations_hold": 0.9,
        "checkable_share": 1.0,
        "key_node_coverage": 0.5,
        "reasoning_length": {"mean_tokens": 31.25, "median_tokens": 30, "p95_tokens": 60, "mean_steps": 2.5},
        "close_rate": 0.99,
        "repeat_rate": 0.0,
        "language_ratio": None,
    }


def results(accuracy: float = 0.625, **changes: Any) -> dict[str, Any]:
    top = {
        **figures(accuracy),
        "by_domain": {"math": figures(accuracy)},
        "by_num_steps": {"11-20": figures(0.2, 4), "2": figures(0.9, 16), "3": figures(0.5, 20)},
        "distractor_resistance": 0.8,
        "distracted_accuracy": 0.5,
        "num_samples": 4,
        "seed": 7,
        "template_hash": "0123456789ab",
        "generation": {"max_new_tokens": 512, "do_sample": True, "temperature": 0.6},
    }
    return top | changes


REPORT = {
    "fingerprint": "abc123",
    "counts": {"in": 100, "out": 80, "filters": {"short_chain": 0, "repetition": 15, "near_duplicate": 5}},
    "splits": {"train": 70, "validation": 10},
    "domains": {
        "finance": {"all": 0, "train": 0, "validation": 0},
        "math": {"all": 30, "train": 26, "validation": 4},
        "medical": {"all": 50, "train": 44, "validation": 6},
    },
    "languages": {"zh": 78, "en": 2, "mixed": 0},
    "distributions": {"steps": {"p50": 3}, "chain": {"p50": 120, "p95": 300}},
    "warnings": ["The validation split has only 10 records;\nscores on it will be noisy."],
}


def card(**fields: Any) -> str:
    return build_model_card(**{"model_name": "me/my-reasoner", **fields})


def test_metadata_is_what_the_hub_reads() -> None:
    from huggingface_hub import ModelCard

    text = card(
        base_model="Qwen/Qwen2.5-0.5B-Instruct",
        language=["zh", "en"],
        license="apache-2.0",
        datasets=["org/traces", "my own file.jsonl"],
        results=results(),
        eval_dataset="org/traces",
    )
    data = ModelCard(text).data
    assert data.base_model == "Qwen/Qwen2.5-0.5B-Instruct"
    assert data.language == ["zh", "en"] and data.license == "apache-2.0"
    assert data.library_name == "transformers" and data.pipeline_tag == "text-generation"
    assert data.datasets == ["org/traces"]
    values = {result.metric_type: result.metric_value for result in data.eval_results}
    assert values["answer_accuracy"] == 0.625 and values["distractor_resistance"] == 0.8
    assert {result.dataset_type for result in data.eval_results} == {"org/traces"}
    assert data.model_name == "me/my-reasoner"


def test_results_state_interval_samples_seeds_and_template() -> None:
    text = card(results=results(), settings={"learning_rate": 2e-5}, plots=["figures/accuracy_by_domain.png"])
    assert "| answer accuracy | 62.5% |" in text
    assert "| — 95% interval | 52.5 - 72.5 |" in text
    assert "40 records x 4 sample(s) each, 1 training seed(s), prompt template `0123456789ab`" in text
    assert "max_new_tokens 512, do_sample True, temperature 0.6; seed 7." in text
    assert "![accuracy by domain](figures/accuracy_by_domain.png)" in text
    assert "答案准确率 62.5% (95% 置信区间 52.5 - 72.5)。" in text
    assert "One training seed" in text
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith(("| 2 ", "| 3 ", "| 11-20"))]
    assert rows == ["2", "3", "11-20"], "numbers of steps in their order"
    assert "| 2 | 16 | 90.0% (80.0 - 100.0) |" in text
    assert "Chinese in Chinese outputs" not in text, "a figure nobody could compute is no row"


def test_settings_that_are_not_set_have_no_row() -> None:
    settings = {
        "learning_rate": 2e-5,
        "tasks": None,
        "lora_r": 16,
        "lora_target_modules": ["q_proj", "v_proj"],
        "loar_budgets": {"0": 0.5, "1": 0.25},
        "replay_ratio": 0.2,
        "packing": False,
    }
    rows = card(settings=settings).split("## Training")[1].split("## Limitations")[0].strip().splitlines()[2:]
    assert rows == [
        "| learning_rate | 2e-05 |",
        "| lora_r | 16 |",
        "| lora_target_modules | q_proj, v_proj |",
        "| loar_budgets | 0 0.5, 1 0.25 |",
        "| replay_ratio | 0.2 |",
        "| packing | False |",
    ]
    assert "## Training" not in card(settings={"tasks": None}) and "## Training" not in card(settings={})


def test_the_settings_of_generation_are_those_that_matter() -> None:
    greedy = {
        "do_sample": False,
        "eos_token_id": [1],
        "max_new_tokens": 128,
        "output_scores": False,
        "temperature": 1.0,
    }
    text = card(results=results(generation={**greedy, "top_k": 50, "use_cache": True, "thinking": True}, vote=True))
    assert "Generation: do_sample False, max_new_tokens 128, thinking True; seed 7." in text
    assert "the most frequent answer of each record scored" in text


def test_figures_that_cannot_be_had_have_a_reason() -> None:
    from huggingface_hub import ModelCard

    nothing = results(answer_accuracy=None, answer_accuracy_ci=None, step_accuracy=None)
    text = card(results=nothing, eval_dataset="org/traces")
    assert "| answer accuracy | - |" in text
    assert "\nNote on answer accuracy: no record has an answer to compare with.\n" in text
    assert "\nNote on step accuracy: no step of the outputs states an equation.\n" in text
    assert "Answer accuracy on org/traces" not in text and "答案准确率" not in text and "\n\n\n" not in text
    assert "answer_accuracy" not in {row.metric_type for row in ModelCard(text).data.eval_results}


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("---\n{{ metadata }}\n---\n# {{ title }} by me", encoding="utf-8")
    assert build_model_card(tmp_path / "mine.md", model_name="me/x").endswith("\n# me/x by me\n")


def test_several_seeds_give_mean_and_range() -> None:
    runs = [results(0.5), results(0.6), results(0.7, close_rate=0.9)]
    text = card(results=runs)
    assert "| answer accuracy | 60.0% | 50.0% | 70.0% |" in text
    assert "3 training seed(s)" in text and "mean of 3 training seeds" in text
    assert "95% interval" not in text and "One training seed" not in text
    assert "| 3 | 20 | 50.0% (40.0 - 60.0) |" in text, "what all seeds agree on stays"
    from huggingface_hub import ModelCard

    values = {result.metric_type: result.metric_value for result in ModelCard(text).data.eval_results}
    assert values["answer_accuracy"] == 0.6


def test_models_side_by_side_the_first_is_this_one() -> None:
    text = card(results={"steps": results(0.8), "direct": results(0.4)})
    assert "|  | steps | direct |" in text
    assert "| answer accuracy | 80.0% | 40.0% |" in text
    assert "**80.0% (95% interval 70.0 - 90.0)**" in text


def test_data_report() -> None:
    text = card(datasets_info=REPORT)
    assert "100 raw traces were read, 80 records were kept (preparation `abc123`)." in text
    assert "Median 3 steps and 120 characters a chain (95% under 300)." in text
    assert "Languages: Chinese 78, English 2." in text
    assert "| near duplicate | 5 |" in text and "short chain" not in text
    assert text.index("| medical | 50 | 44 | 6 |") < text.index("| math | 30 | 26 | 4 |")
    assert "finance" not in text
    assert "> The validation split has only 10 records; scores on it will be noisy." in text


def test_sections_without_data_are_left_out() -> None:
    from huggingface_hub import ModelCard

    text = card()
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## How to load", "## Limitations"]
    assert "No evaluation was run." in text and "None" not in text and "\n\n\n" not in text
    assert "trained from scratch" in text
    data = ModelCard(text).data
    assert data.eval_results is None and data.base_model is None
    full = card(results=results(), datasets_info=REPORT, settings={"a": 1}, plots=["x.png"], limitations=["Small."])
    headings = [line[3:] for line in full.splitlines() if line.startswith("## ")]
    assert headings == ["How to load", "Results", "Data", "Training", "Limitations"]
    assert "\n\n\n" not in full and "- Small." in full


def test_snippet_is_python_and_names_the_model() -> None:
    text = card()
    code = text.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert 'from_pretrained("me/my-reasoner")' in code
    assert "serve it" in card(usage="serve it")
    assert "AutoPeftModelForCausalLM.from_pretrained(" in card(adapter=True)
    assert 'from_pretrained("path/to/mine")' in card(model_name="mine")


def test_cells_are_escaped() -> None:
    assert escape_cell("a|b\n<think> *x* `y` \\") == "a\\|b &lt;think> \\*x\\* \\`y\\` \\\\"
    assert escape_cell(2e-05) == "2e-05" and escape_cell(0.1 + 0.2) == "0.3"
    table = markdown_table(("setting", "value"), {"stop|word": "<|im_end|>\n", "list": [1, 2]}.items())
    assert table.splitlines() == [
        "| setting | value |",
        "| :--- | ---: |",
        "| stop\\|word | &lt;\\|im_end\\|> |",
        "| list | [1, 2] |",
    ]


def test_text_that_looks_like_a_template_or_yaml_stays_text() -> None:
    from huggingface_hub import ModelCard

    text = card(model_name="odd: {{ name }}\n---", settings={"prompt": "{{ messages }} {% if x %}"}, results=results())
    assert "{{ messages }} {% if x %}" in text
    assert ModelCard(text).data.model_name == "odd: {{ name }} ---"


def test_local_paths_do_not_leak(tmp_path: Path) -> None:
    base = tmp_path / "runs" / "base-model"
    base.mkdir(parents=True)
    text = card(base_model=str(base))
    assert "base_model" not in text.split("---")[1]
    assert "fine-tuned from `base-model`" in text and str(tmp_path) not in text


@pytest.mark.parametrize("plot", ["/abs/a.png", "../a.png", "https://x/a.png", "C:\\a.png"])
def test_plots_must_lie_beside_the_card(plot: str) -> None:
    with pytest.raises(ValueError, match="relative to the card"):
        card(results=results(), plots=[plot])


def test_wrong_results_are_refused() -> None:
    with pytest.raises(ValueError, match="does not hold results"):
        card(results={"accuracy": 0.5})
    with pytest.raises(ValueError, match="does not hold results"):
        card(results=[results(), {"accuracy": 0.5}])


def test_weak_spots_are_said() -> None:
    text = card(results=results(close_rate=0.0, repeat_rate=0.3))
    assert "Only 0.0% of the outputs close their thought" in text and "30.0% of the outputs repeat themselves." in text


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_model_card(tmp_path / "model" / "README.md", model_name="me/x", results=results())
    before = path.read_text(encoding="utf-8")
    assert before == build_model_card(model_name="me/x", results=results()) and before.endswith("\n")
    with pytest.raises(ValueError):
        write_model_card(path, model_name="me/x", results=results(), plots=["/a.png"])
    assert path.read_text(encoding="utf-8") == before
    assert [file.name for file in path.parent.iterdir()] == ["README.md"]


def test_results_survive_json(tmp_path: Path) -> None:
    assert card(results=json.loads(json.dumps(results()))) == card(results=results())
