"""The report of a circle: what was asked, learned, refused, tested and decided."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_reason._files import write_atomically
from hf_reason.evaluation.forgetting import load_history
from hf_reason.serving.experiment import Experiment
from hf_reason.serving.experiment_report import draw_result, format_report
from hf_reason.serving.experiments import Experiments

from .plan import Plan


def write_report(plan: Plan, record: Mapping[str, Any], experiment: Experiment | None) -> None:
    """Write `report.md`, and `report.png` of the test if there was one.

    Args:
        plan: Of the circle.
        record: What its stages noted.
        experiment: The test, once it has ended.
    """
    (name_a, folder_a), (name_b, folder_b) = plan.version_a, plan.version_b
    verdict = {"promoted": f"{name_b} is promoted", "rolled_back": f"{name_a} stays"}
    decision = f"The guard refused {name_b}: {name_a} stays" if experiment is None else verdict[experiment.status]
    parts = [f"# Circle {name_b} on {plan.model}", f"{decision}.", _feedback(plan, record), _round(plan, record)]
    if experiment is not None:
        experiments = Experiments(plan.experiments_file)
        try:
            text = format_report(experiment, experiments.result(experiment.name))
            write_atomically(plan.output / "report.png", draw_result(experiments, experiment.name))
        finally:
            experiments.close()
        parts += [text.replace("# ", "## A/B test ", 1).strip(), "![rates and evidence](report.png)"]
    served = folder_b if experiment is not None and experiment.status == "promoted" else folder_a
    name = name_b if served == folder_b else name_a
    parts.append(
        "## From here on\n\n"
        f"    hf-reason serve --model_name_or_path {name}={served} --output_dir {plan.serve.output_dir}\n\n"
        f"answers requests for `{plan.model}`"
        + (f" with {name}." if name != plan.model else ".")
        + (
            f" To go back to {name_a}, serve it as well and call `Experiments(...).roll_back({name_b!r})`."
            if name == name_b
            else ""
        )
    )
    write_atomically(plan.output / "report.md", "\n\n".join(parts) + "\n")


def _feedback(plan: Plan, record: Mapping[str, Any]) -> str:
    lines = ["## Feedback", ""]
    if "asked" in record:
        asked = record["asked"]
        total = sum(asked.values())
        lines.append(
            f"- {total} answers to simulated users: {asked['right']} right, "
            f"{asked['corrected']} corrected, {asked['wrong']} wrong without a correction"
        )
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(record["left_out"].items())) or "none"
    dropped = ", ".join(f"{count} {name}" for name, count in sorted(record["dropped"].items())) or "none"
    lines.append(f"- {record['records']} records to learn (answers left out: {left_out})")
    lines.append(f"- {record['kept']} of them kept by the filters (dropped: {dropped})")
    return "\n".join(lines)


def _round(plan: Plan, record: Mapping[str, Any]) -> str:
    """The accuracy of each domain before and after the round."""
    import json

    folder = Path(plan.version_b[1])
    before: dict[str, Any] = json.loads((folder / "before.json").read_text(encoding="utf-8"))["by_domain"]
    after = load_history(folder)[-1]
    seconds = record.get("learning_seconds")
    lines = [
        "## Round",
        "",
        f"Guard: {record['guard']}." + (f" {seconds:.0f} s." if seconds is not None else ""),
        "",
        "| domain | test records | before | after |",
        "|---|---|---|---|",
    ]
    for domain in sorted(after.accuracy):
        figures = before.get(domain)
        was = "-" if figures is None or figures["answer_accuracy"] is None else f"{figures['answer_accuracy']:.1%}"
        lines.append(f"| {domain} | {after.records.get(domain, '-')} | {was} | {after.accuracy[domain]:.1%} |")
    plot = os.path.relpath(folder / "history.png", plan.output)
    return "\n".join([*lines, "", f"![accuracy over the rounds]({plot})"])
