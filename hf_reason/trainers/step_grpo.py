"""GRPO with credit for single steps: TRL's `GRPOTrainer` on reasoning records."""

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from trl import GRPOConfig, GRPOTrainer

from hf_reason.models.savable_generation import make_generation_config_savable
from hf_reason.text.instructions import check_instructions
from hf_reason.text.spans import DOMAIN_IDS, decoded, prompt_token_ids
from hf_reason.text.tokens import align_generation_config, fit_tokens
from hf_reason.trainers.sampling.difficulty import ProblemSampler, SettledProblems
from hf_reason.trainers.sampling.domains import domain_id

from .adapters import begin_adapters, check_adapters, load_model
from .arguments import named_arguments, own_arguments
from .checkpoints import CheckpointFiles
from .credit import Batch, StepCredit, check_first_batch, credited_fraction
from .generated_figures import GeneratedEvaluation, GeneratedFigures
from .grpo_data import GRPOData
from .grpo_state import load_counts, load_generated, save_counts, save_generated
from .grpo_teacher import TeacherTerm, teacher_source
from .routed import RoutedForward, Routing
from .step_grpo_config import StepGRPOConfig
from .teacher_setup import Student
from .vision import tokenizer_of

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What GRPOTrainer accepts by position after `processing_class`.
_LATER = tuple(inspect.signature(GRPOTrainer.__init__).parameters)[7:]


class StepGRPOTrainer(GeneratedEvaluation, CheckpointFiles, GRPOTrainer):
    """`trl.GRPOTrainer` whose advantages know the steps of a chain of thought.

    The advantage of a token is `A + step_weight * a`: A is that of its completion, TRL's own, and a that of the step
    in which the token stands (`hf_reason.trainers.step_credit`), judged by `hf_reason.rewards.step_verdicts`. With
    `step_weight=0` the loss is TRL's. It accepts data sets of records, whose prompts `hf_reason.text` builds and whose
    columns (`context`, `steps`, `answer`, `domain`, ...) the reward functions get, and TRL's own formats with a
    `prompt`. Positional arguments are in `GRPOTrainer`'s order.

    Args:
        model: A model or its name.
        reward_funcs: As in `GRPOTrainer`. Of records, completions are texts with their special tokens, without the
            end-of-turn token.
        args: The configuration, which is copied; default `StepGRPOConfig`. A `GRPOConfig` is converted, with the
            defaults of `StepGRPOConfig` for its own fields.
        train_dataset: Records, or TRL's format.
        eval_dataset: The same, or a dictionary of them.
        processing_class: The tokenizer or processor.
        *others: `GRPOTrainer`'s further arguments by position.
        instructions: Template of each domain; saved beside the model.
        thinking: `False` asks for answers without a thought.
        generation_eval: Called with the model at each evaluation, as in `CoTSFTTrainer`.
        teacher_model: A model, any `hf_reason.teachers.Teacher`, or what `teacher_model_name_or_path` may name, for
            `teacher_kl_weight`. Default: that.
        teacher_tokenizer: The teacher's tokenizer, for a teacher whose folder has none.
        **kwargs: `GRPOTrainer`'s further arguments by name.

    Raises:
        TypeError: if `args` cannot be converted.
        ValueError: if a record has no answer, the chat template loses the problem or the thought, options exclude each
            other, the teacher's vocabulary is another one, or the completions of the first batch are all clipped or
            without a thought.
    """

    _tag_names = ["trl", "grpo", "hf_reason"]
    _name = "Step-GRPO"
    args: StepGRPOConfig  # type: ignore[assignment]

    def __init__(
        self,
        model: "str | PreTrainedModel",
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        train_dataset: "Dataset | IterableDataset | None" = None,
        eval_dataset: Any = None,
        processing_class: "PreTrainedTokenizerBase | None" = None,
        *others: Any,
        instructions: Mapping[str, str] | None = None,
        thinking: bool = True,
        generation_eval: "Callable[[PreTrainedModel], dict[str, float]] | None" = None,
        teacher_model: Any = None,
        teacher_tokenizer: "PreTrainedTokenizerBase | None" = None,
        **kwargs: Any,
    ):
        own: Any = own_arguments(_unsettled(args), StepGRPOConfig, model, self._name)
        taught_by = teacher_source(own, teacher_model)
        kwargs = named_arguments(others, kwargs, _LATER)
        if processing_class is None:
            from transformers import AutoTokenizer

            source = model if isinstance(model, str) else model.config.name_or_path
            processing_class = AutoTokenizer.from_pretrained(source, trust_remote_code=own.trust_remote_code)
        tokenizer = tokenizer_of(processing_class)
        if isinstance(model, str):
            model = load_model(model, own, kwargs)
        assert not isinstance(model, str)
        self.base = check_adapters(model, kwargs.get("peft_config"), own)
        has_adapter = kwargs.get("peft_config") is not None or hasattr(model, "peft_config")
        fit_tokens(model, tokenizer, adapter=has_adapter)
        align_generation_config(model, tokenizer)
        make_generation_config_savable(model)
        self.instructions = check_instructions(instructions or {})
        self.routing = Routing(model)
        if self.routing.loar is not None and own.beta != 0:
            raise ValueError("beta needs a reference model, which would be built without the LoAR. Set beta=0.")
        self.generated = GeneratedFigures(generation_eval)
        self.data = GRPOData(tokenizer, self.instructions, thinking, own.max_completion_length)
        train_dataset = self.data.prepare(train_dataset, "train", model, own.difficulty_from)
        eval_dataset = self.data.prepare(eval_dataset, "eval", model)
        self.settled = SettledProblems(own.skip_settled)
        if own.skip_settled and (not self.data.records.get("train") or hasattr(train_dataset, "_ex_iterable")):
            raise ValueError("skip_settled needs records with answers, not streamed. Leave it out.")
        self._batch: Batch | None = None
        self._prompt_ids: list[list[int]] = []
        self._domains: list[str | None] = []
        self._first_batch_checked = False
        self.sample: dict[str, Any] | None = None
        super().__init__(model, reward_funcs, own, train_dataset, eval_dataset, processing_class, **kwargs)
        self.credit = StepCredit(self.args, self._tokenizer, self.eos_token_ids)
        self.routing.attach(self)
        for callback in begin_adapters(self._unwrapped()):
            self.add_callback(callback)
        self.teacher: TeacherTerm | None = None
        if taught_by is not None:
            prompts = ([example["prompt"]] for example in self.train_dataset)  # type: ignore[union-attr]
            probes = ({"input_ids": self._tokenize_prompts(prompt)[0][0]} for prompt in prompts)
            student = Student(self._unwrapped(), self._tokenizer, self.accelerator, probes)
            self.teacher = TeacherTerm(taught_by, student, self.args, teacher_tokenizer)

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"  # type: ignore[union-attr]

    @property
    def _has_records(self) -> bool:
        return self.data.records.get(self._mode, False)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        return ProblemSampler(
            lambda: int(self.state.epoch or 0),
            self.settled.at,
            self.train_dataset if dataset is None else dataset,
            mini_repeat_count=self.num_generations,
            batch_size=self.args.generation_batch_size // self.num_generations,  # type: ignore[operator]
            repeat_count=self.num_iterations * self.args.steps_per_generation,  # type: ignore[operator]
            shuffle=self.shuffle_dataset,
            seed=self.args.seed,
        )

    # Generation

    def _tokenize_prompts(self, prompts: list) -> Any:
        if not self._has_records:
            return super()._tokenize_prompts(prompts)
        # the template has written its own special tokens already
        return [prompt_token_ids(prompt, self._tokenizer) for prompt in prompts], None, {}

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        with self.routing.for_domains(self._domains):
            return super()._generate_single_turn(*args, **kwargs)

    def _generate(self, prompts: list) -> Any:
        found = super()._generate(prompts)
        self._prompt_ids = found[0]
        if not self._has_records:
            return found
        # TRL's text has no special tokens, which the tags are in some vocabularies
        texts = []
        for ids in found[1]:
            stop = len(ids) - (bool(ids) and ids[-1] in self.eos_token_ids)
            texts.append(decoded(ids[:stop], self._tokenizer))
        return (*found[:3], texts, *found[4:])

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        self._batch = batch = self.credit.read(inputs, self._prompt_ids, completion_ids_list)
        if self._mode == "train" and not self._first_batch_checked and self._has_records:
            check_first_batch(batch, self.max_completion_length, self.args.step_weight)  # type: ignore[arg-type]
            self._first_batch_checked = True
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        mode, first = self._mode, self.accelerator.process_index * len(inputs)
        for name, value in self.credit.figures(batch, self._group).items():
            self._metrics[mode][name].append(value)
        if mode == "train":
            self._note_groups(batch)
            self.sample = {
                "example": inputs[0],
                "chain": batch.chains[0],
                "verdicts": batch.verdicts[0],
                "rewards": dict(zip(self.reward_func_names, rewards[first].tolist(), strict=True)),
            }
        return rewards

    @property
    def _group(self) -> int:
        return self.num_generations if self._mode == "train" else self.num_generations_eval  # type: ignore[return-value]

    def _note_groups(self, batch: Batch) -> None:
        epoch = max(self.settled.epoch, 0)
        for start in range(0, len(batch.everything), self._group):
            group = batch.everything[start : start + self._group]
            if group[0][0] >= 0:
                self.settled.note(group[0][0], [row[1] for row in group], epoch)
        if self.args.skip_settled:
            self._metrics["train"]["problems/skipped"].append(float(len(self.settled.skipped)))

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        self._domains = [example.get("domain") for example in inputs]
        output = super()._generate_and_score_completions(inputs)
        if self.routing.columns:
            ids = [domain_id(name) for name in self._domains]
            output[DOMAIN_IDS] = torch.tensor(ids, device=output["completion_ids"].device)
        batch, self._batch = self._batch, None
        if self.args.step_weight > 0:
            assert batch is not None
            first = self.accelerator.process_index * len(inputs)
            length = output["completion_ids"].shape[1]
            credit = self.credit.advantages(batch, self._group, first, length, self._mode == "train")
            advantages = output["advantages"]
            credit = credit.to(advantages)
            output["advantages"] = advantages.unsqueeze(1) + self.args.step_weight * credit
            credited = credited_fraction(credit != 0, output["completion_mask"].bool(), self.accelerator)
            if credited is not None:
                self._metrics[self._mode]["steps/credited"].append(credited)
        return output

    # Loss

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        self.routing.row_domains = inputs.get(DOMAIN_IDS)
        if self.teacher is None:
            return super()._compute_loss(model, inputs)
        return self.teacher.add_to(super()._compute_loss, model, inputs, self._mode, self._accumulated)

    @property
    def _accumulated(self) -> float:
        """Fraction of a process's part of a generation batch that one optimizer step trains on; an evaluation: 1."""
        if self._mode == "eval":
            return 1.0
        return self.current_gradient_accumulation_steps / self.args.steps_per_generation  # type: ignore[operator]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.teacher is not None:
            self._metrics[self._mode].update(self.teacher.figures(self._mode))
        super().log(logs, start_time)

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        routed = model if self.routing.loar is None else RoutedForward(model, self.routing)
        return super()._get_per_token_logps_and_entropies(routed, *args, **kwargs)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.routing.count(len(batches) * self.args.per_device_train_batch_size, device)
        return batches, count

    # Checkpoints

    def _save_rng_state(self, output_dir: str) -> None:
        # the Trainer calls it in every process, before it writes the file that makes a checkpoint complete
        super()._save_rng_state(output_dir)
        every = self.args.steps_per_generation * self.num_iterations  # type: ignore[operator]
        if self._buffered_inputs is not None and self._step % every:
            save_generated(output_dir, self.args.process_index, self._buffered_inputs, self._step)
        if self.args.should_save:
            running = vars(self.credit.running)
            save_counts(
                output_dir, {"settled": self.settled.state(), "running": running, "dropped": self.data.dropped}
            )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        counts = load_counts(checkpoint)
        if counts:
            self.settled.load(counts["settled"])
            vars(self.credit.running).update(counts["running"])
        generated = load_generated(checkpoint, self.args.process_index, self.accelerator.device)
        if generated is not None:
            self._buffered_inputs, self._step = generated  # type: ignore[assignment]


def _unsettled(args: Any) -> Any:
    """TRL's configuration as it can be built again: it refuses both of the fields that it derives from each other."""
    if isinstance(args, GRPOConfig) and not isinstance(args, StepGRPOConfig):
        args = copy.copy(args)
        args.generation_batch_size = None
    return args
