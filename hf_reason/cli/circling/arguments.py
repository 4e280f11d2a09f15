"""What `circle` is told."""

from dataclasses import dataclass
from typing import Any

from hf_reason._options import option, parsed_option
from hf_reason.cli.arguments import as_list

SECTIONS = ("serve", "continual")


@dataclass
class CircleArguments:
    """The version in use, its users, and when the new one replaces it."""

    model_name_or_path: str = option("", "The version in use: a folder or Hub name, also as name=folder. (required)")
    output_dir: str = option("outputs/circle", "Folder of the circle; its last part is the new version's name.")
    model: str | None = option(None, "Name that clients ask for. Default: that of the version in use.")
    serve: dict[str, Any] | str | None = option(
        None, "Options of `serve`, also --serve.NAME VALUE; serve.output_dir has feedback and experiments."
    )
    continual: dict[str, Any] | str | None = option(
        None, "Options of `continual`, also --continual.NAME VALUE; old_dataset is required."
    )
    server_url: str | None = option(
        None, "A server that somebody else runs, with the folder serve.output_dir. Default: one of this command's own."
    )
    min_feedback: int = option(200, "Records in the new feedback from which it is learned.")
    fraction: float = option(0.5, "Fraction of the users who get the new version in the test.")
    alpha: float = option(0.05, "Probability that the test shows a difference where there is none.")
    max_outcomes: int = option(5000, "Outcomes after which a test that shows no difference ends, and A stays.")
    poll_interval: float = option(10.0, "Seconds between two looks at feedback and outcomes.")
    crowd_dataset_name: list[str] | None = option(
        None, "Simulated users ask these problems, prepared or raw. Default: real users."
    )
    crowd_domain: str = option("all", "Domain of their problems.")
    crowd_split: str = option("train", "Split whose problems they ask before the round, each once.")
    crowd_test_split: str = option("test", "Split whose problems they ask in the test, drawn with replacement.")
    crowd_max_problems: int | None = option(None, "Problems that they ask before the round. Default: all.")
    correct_ratio: float = option(1.0, "Fraction of the wrong answers that they correct.")
    num_clients: int = option(8, "Simulated users at once.")
    seed: int = option(0, "Seed of the simulated users.")
    use_cpu: bool = option(False, "Serve and train without an accelerator.")

    def __post_init__(self) -> None:
        self.crowd_dataset_name = as_list(self.crowd_dataset_name) or None
        for name in SECTIONS:
            setattr(self, name, parsed_option(name, getattr(self, name)))
        if not self.model_name_or_path:
            raise ValueError("there is no version in use. Give model_name_or_path.")
        for name in ("fraction", "alpha"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be between 0 and 1, not {getattr(self, name)}.")
        for name in ("min_feedback", "max_outcomes", "num_clients"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 <= self.correct_ratio <= 1:
            raise ValueError(f"correct_ratio must be between 0 and 1, not {self.correct_ratio}.")
        if self.poll_interval <= 0:
            raise ValueError(f"poll_interval must be above 0, not {self.poll_interval}.")
        if self.crowd_max_problems is not None and self.crowd_max_problems < 1:
            raise ValueError(f"crowd_max_problems must be at least 1, not {self.crowd_max_problems}.")
