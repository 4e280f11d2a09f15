"""What the trainers accept: SFTTrainer's order, other libraries' configurations, collators; what they leave alone."""

import copy
import dataclasses
import inspect
import warnings
from functools import partial

import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDataset
from peft import LoraConfig
from tiny import first_batch, logged, tiny_settings, tiny_trainer
from transformers import TrainerCallback, TrainingArguments
from trl import DPOConfig, GRPOConfig, SFTConfig, SFTTrainer, TrlParser

from hf_reason.text import encode
from hf_reason.text.collator import CoTCollator
from hf_reason.trainers import (
    CoTSFTConfig,
    CoTSFTTrainer,
    DistillKLConfig,
    DistillKLTrainer,
    ReasonerLoRAConfig,
    ReasonerLoRATrainer,
)

TRAINERS = [CoTSFTTrainer, DistillKLTrainer, ReasonerLoRATrainer]
CONFIGS = [CoTSFTConfig, DistillKLConfig, ReasonerLoRAConfig]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_positional_arguments_are_sft_trainers(trainer):
    theirs = list(inspect.signature(SFTTrainer.__init__).parameters)
    ours = inspect.signature(trainer.__init__).parameters
    assert list(ours)[:7] == theirs[:7]
    kinds = [parameter.kind for parameter in list(ours.values())[7:]]
    assert kinds[0] is inspect.Parameter.VAR_POSITIONAL  # SFTTrainer's further ones
    assert kinds[-1] is inspect.Parameter.VAR_KEYWORD
    assert set(kinds[1:-1]) == {inspect.Parameter.KEYWORD_ONLY}


def test_further_positional_arguments_arrive(tmp_path, tiny_model, tokenizer, records):
    class Counting(TrainerCallback):
        begun = 0

        def on_step_begin(self, *args, **kwargs):
            self.begun += 1

    counting, data = Counting(), Dataset.from_list(records[:8])
    settings = CoTSFTConfig(**tiny_settings(tmp_path))
    trainer = CoTSFTTrainer(tiny_model, settings, None, data, data, tokenizer, None, None, [counting])
    trainer.train()
    assert counting.begun == 2 and trainer.evaluate()["eval_loss"] > 0
    with pytest.raises(TypeError, match="callbacks was passed by position and by name"):
        CoTSFTTrainer(tiny_model, settings, None, data, data, tokenizer, None, None, [counting], callbacks=[])


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_data_set_in_the_collators_place_is_named(tiny_model, records, trainer):
    with pytest.raises(TypeError, match="third positional argument is data_collator.*train_dataset="):
        trainer(tiny_model, None, Dataset.from_list(records[:4]))


def test_what_cannot_collate_is_named(tiny_model, tokenizer, records):
    for wrong in ({"train": Dataset.from_list(records[:4])}, records[:4], tokenizer):
        with pytest.raises(
            TypeError, match=f"data_collator is the third .*got a {type(wrong).__name__}. Pass train_da"
        ):
            CoTSFTTrainer(tiny_model, None, wrong, Dataset.from_list(records[:4]), None, tokenizer)


def test_data_that_fill_no_batch_are_refused(tmp_path, tiny_model, tokenizer, records):
    options = {"dataloader_drop_last": True, "per_device_train_batch_size": 16}
    with pytest.raises(ValueError, match="train data set: 8 examples fill no batch of 16"):
        tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, records[:8], **options)


@pytest.mark.parametrize("streamed", [False, True])
def test_args_are_left_alone(tmp_path, tiny_model, tokenizer, records, streamed):
    """TRL drops `selective` from the dictionary, and forces dispatch_batches for a stream."""
    args = CoTSFTConfig(
        **{
            **tiny_settings(tmp_path, label_smoothing_factor=0.1, step_weighting="step"),
            "gradient_checkpointing": True,
            "gradient_checkpointing_kwargs": {"use_reentrant": False, "selective": False},
        }
    )
    before = copy.deepcopy(args.to_dict())
    data = IterableDataset.from_generator(lambda: iter(records)) if streamed else Dataset.from_list(records)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = CoTSFTTrainer(tiny_model, args, train_dataset=data, processing_class=tokenizer)
    assert args.to_dict() == before and trainer.args is not args
    assert trainer.args.label_smoothing_factor == 0.1
    assert not [str(item.message) for item in caught if "label_smoothing_factor" in str(item.message)]
    trainer.train()
    trainer.save_model()
    assert args.to_dict() == before
    assert torch.load(tmp_path / "training_args.bin", weights_only=False).label_smoothing_factor == 0.1


def test_all_of_sft_trainers_positions(tmp_path, tiny_model, tokenizer, records):
    settings = ReasonerLoRAConfig(**tiny_settings(tmp_path, reasoner_layers="1"))
    data, lora = Dataset.from_list(records), LoraConfig(r=3, target_modules=["q_proj"])
    later = [None, None, None, (None, None), None, None, None, lora]
    trainer = ReasonerLoRATrainer(tiny_model, settings, None, data, None, tokenizer, *later)
    assert trainer.model.peft_config["default"].r == 3


def test_reasoner_lora_leaves_args_alone(tmp_path, tiny_model, tokenizer, records):
    tiny_model.save_pretrained(tmp_path / "base")
    args = ReasonerLoRAConfig(
        **tiny_settings(tmp_path / "out", reasoner_layers="1", model_init_kwargs={"dtype": "float32"})
    )
    before = copy.deepcopy(args.to_dict())
    lora = LoraConfig(r=2, target_modules=["q_proj"])
    ReasonerLoRATrainer(
        str(tmp_path / "base"), args, None, Dataset.from_list(records), None, tokenizer, peft_config=lora
    )
    assert args.to_dict() == before


@pytest.mark.parametrize("config", [SFTConfig, TrainingArguments])
def test_configurations_of_trl_and_transformers_are_converted(tmp_path, tiny_model, tokenizer, records, config):
    settings = tiny_settings(tmp_path, seed=7, hub_token="secret", weight_decay=0.25)
    if config is TrainingArguments:
        del settings["max_length"]
    data = Dataset.from_list(records[:8])
    trainer = CoTSFTTrainer(tiny_model, config(**settings), train_dataset=data, processing_class=tokenizer)
    assert isinstance(trainer.args, CoTSFTConfig)
    values = (trainer.args.seed, trainer.args.weight_decay, trainer.args.hub_token, trainer.args.max_length)
    assert values == (7, 0.25, "secret", 512 if config is SFTConfig else 4096)
    trainer.train()


def test_a_teacher_with_the_configuration_of_sft(tmp_path, tiny_model, tokenizer, records):
    args = CoTSFTConfig(**tiny_settings(tmp_path, step_weighting="step"))
    trainer = DistillKLTrainer(
        tiny_model,
        args,
        train_dataset=Dataset.from_list(records[:8]),
        processing_class=tokenizer,
        teacher_model=copy.deepcopy(tiny_model),
        teacher_tokenizer=tokenizer,
    )
    assert isinstance(trainer.args, DistillKLConfig) and trainer.args.step_weighting == "step"
    trainer.train()
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_converted_is_refused(tmp_path, tiny_model, records):
    data = Dataset.from_list(records[:4])
    distill = DistillKLConfig(**tiny_settings(tmp_path, kl_weight=0.9, lmbda=0.5))
    with pytest.raises(TypeError, match="sets kl_weight, lmbda, which a ReasonerLoRAConfig does not have"):
        ReasonerLoRATrainer(tiny_model, distill, train_dataset=data)
    with pytest.raises(TypeError, match="must be a CoTSFTConfig, got a dict"):
        CoTSFTTrainer(tiny_model, {"max_steps": 1}, train_dataset=data)


@pytest.mark.parametrize("trainer", TRAINERS)
@pytest.mark.parametrize("config", [*CONFIGS, GRPOConfig, DPOConfig])
def test_configurations_of_other_trainers_are_refused(tmp_path, tiny_model, records, trainer, config):
    """A DistillKLConfig is a CoTSFTConfig: it trained without its teacher."""
    if issubclass(trainer._config_class, config):
        return
    settings = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none"}
    own = {DistillKLConfig: {"teacher_model_name_or_path": "a/teacher"}, ReasonerLoRAConfig: {"reasoner_layers": "1"}}
    for extra in ({}, own.get(config, {})):
        with pytest.raises(TypeError, match=f"args is a {config.__name__} .*Pass a {trainer._config_class.__name__}"):
            trainer(tiny_model, config(**settings, **extra), train_dataset=Dataset.from_list(records[:4]))


def test_a_users_own_configuration_is_what_it_derives_from(tmp_path, tiny_model, tokenizer, records):
    @dataclasses.dataclass
    class Mine(CoTSFTConfig):
        colour: str = "red"

    @dataclasses.dataclass
    class MyTeacher(DistillKLConfig):
        pass

    data = Dataset.from_list(records[:4])
    args = Mine(**tiny_settings(tmp_path), colour="blue")
    trainer = CoTSFTTrainer(tiny_model, args, train_dataset=data, processing_class=tokenizer)
    assert trainer.args.colour == "blue"
    with pytest.raises(TypeError, match="args is a MyTeacher for DistillKLTrainer"):
        CoTSFTTrainer(tiny_model, MyTeacher(**tiny_settings(tmp_path)), train_dataset=data)


def test_an_own_collator_is_used_or_refused(tmp_path, tiny_model, tokenizer, records):
    def collate(examples):
        return plain([{name: row[name] for name in ("input_ids", "labels")} for row in examples])

    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    plain = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id)
    options = {"data_collator": collate}
    trainer = tiny_trainer(
        CoTSFTTrainer,
        CoTSFTConfig,
        tmp_path,
        tiny_model,
        tokenizer,
        records,
        None,
        options,
        label_smoothing_factor=0.1,
    )
    assert trainer.data_collator is collate
    trainer.train()
    from transformers import DataCollatorForSeq2Seq, DataCollatorForTokenClassification

    for usual in (DataCollatorForSeq2Seq(tokenizer), DataCollatorForTokenClassification(tokenizer), plain):
        tiny_trainer(
            CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, records, None, {"data_collator": usual}
        ).train()
    for settings in ({"step_weighting": "step"}, {"tasks": {"x": {"weight": 2.0}}}, {"domain_target": "data"}):
        with pytest.raises(ValueError, match="segment_ids.*Leave data_collator out"):
            tiny_trainer(
                CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, records, None, options, **settings
            )
    with pytest.raises(ValueError, match="Leave data_collator out"):
        teacher = {"teacher_model": copy.deepcopy(tiny_model), "teacher_tokenizer": tokenizer}
        tiny_trainer(
            DistillKLTrainer,
            DistillKLConfig,
            tmp_path,
            tiny_model,
            tokenizer,
            records,
            None,
            {**options, **teacher},
            path_weight=1.0,
        )
    ours = {"data_collator": CoTCollator(pad_token_id=tokenizer.pad_token_id)}
    tiny_trainer(
        CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, records, None, ours, step_weighting="step"
    ).train()


def test_an_own_loss_excludes_weights(tmp_path, tiny_model, tokenizer, records):
    options = {"compute_loss_func": lambda outputs, labels, num_items_in_batch=None: outputs.logits.sum() * 0}
    for settings in ({"answer_weight": 0.1}, {"mixup_alpha": 0.2}, {"label_smoothing_factor": 0.1}):
        with pytest.raises(ValueError, match="compute_loss_func replaces the loss"):
            tiny_trainer(
                CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, records, None, options, **settings
            )


@pytest.mark.parametrize(
    ("call", "old", "new"),
    [
        (CoTSFTConfig, {"domain_shares": {"math": 1}}, "domain_ratios"),
        (CoTSFTConfig, {"curriculum_share": 0.5}, "curriculum_ratio"),
        (DistillKLConfig, {"domain_shares": {"math": 1}}, "domain_ratios"),
        (DistillKLConfig, {"teacher": "x"}, "teacher_model_name_or_path"),
        (DistillKLConfig, {"teacher_tokenizer": "x"}, "teacher_tokenizer_name_or_path"),
        (DistillKLConfig, {"teacher_top_k": 3}, "top_k"),
        (DistillKLConfig, {"on_policy_share": 0.5}, "lmbda"),
        (DistillKLConfig, {"on_policy_max_new_tokens": 3}, "max_completion_length"),
        (ReasonerLoRAConfig, {"reasoner_share": 0.5}, "reasoner_ratio"),
        (DistillKLTrainer, {"teacher": "x", "model": None}, "teacher_model"),
    ],
)
def test_old_names_give_the_new_ones(call, old, new):
    with pytest.raises(TypeError, match=rf"which is called '{new}' since version 0.2"):
        call(**old)


@pytest.mark.parametrize("config", CONFIGS)
def test_fields_say_what_they_are_for_and_trls_parser_reads_them(tmp_path, config):
    theirs = {field.name for field in dataclasses.fields(SFTConfig)}
    ours = [field for field in dataclasses.fields(config) if field.name not in theirs]
    for field in ours:
        assert field.metadata["help"]
        assert isinstance(field.metadata["card"], bool) and isinstance(field.metadata["resumable"], bool), field.name
    (args,) = TrlParser((config,)).parse_args_and_config(
        ["--output_dir", str(tmp_path), "--use_cpu", "true", "--step_weighting", "step", "--thought_weight", "0.5"]
    )
    assert (args.step_weighting, args.thought_weight) == ("step", 0.5)


def test_numbers_as_text(tmp_path):
    args = CoTSFTConfig(str(tmp_path), use_cpu=True, learning_rate="1e-3", curriculum_stages="4", thought_weight="0.5")
    assert (args.learning_rate, args.curriculum_stages, args.thought_weight) == (1e-3, 4, 0.5)
    with pytest.raises(ValueError, match="learning_rate must be a number, got 'fast'"):
        CoTSFTConfig(str(tmp_path), use_cpu=True, learning_rate="fast")


def test_data_that_cannot_be_trained_on(tmp_path, tiny_model, tokenizer, records, caplog):
    def make(rows, evaluation=None, **settings):
        return tiny_trainer(
            CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, rows, evaluation, None, **settings
        )

    data = Dataset.from_list(records[:8])
    with pytest.raises(ValueError, match="train data set is empty"):
        make(data.select([]))
    with pytest.raises(ValueError, match="eval data set is empty"):
        trainer = make(records[:8])
        trainer.evaluate(data.select([]))
    with pytest.raises(ValueError, match="steps is one text.*hf_reason.data.prepare"):
        make([{**record, "steps": "".join(record["steps"])} for record in records[:8]])
    with pytest.raises(ValueError, match="completion_only_loss unset"):
        make(records[:8], completion_only_loss=False)
    both = [{**record, "text": "x"} for record in records[:8]]
    assert "text are not read" not in caplog.text
    make(both)
    assert "the columns text are not read" in caplog.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": None}, "steps is None"),
        ({"steps": [1, 2]}, r"step 1 of 2 is 1 \(int\)"),
        ({"steps": ["3+4=7", None]}, "step 2 of 2 is None"),
        ({"steps": ["3+4=7", " "]}, "step 2 of 2 is ' '"),
        ({"steps": [{"text": "3+4=7"}]}, "step 1 of 1 is {'text'"),
        ({"answer": None}, "answer is None"),
        ({"answer": 7}, r"answer is 7 \(int\), not a text"),
        ({"context": ["3+4=?"]}, "context is "),
    ],
)
def test_broken_records_are_named(tmp_path, tiny_model, tokenizer, records, fields, message):
    rows = [{**record, **fields} for record in records[:2]]
    with pytest.raises(ValueError, match=f"Record {records[0]['id']}: .*{message}.*Prepare the data"):
        tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, rows)


@pytest.mark.parametrize(
    "options",
    [
        {"completion_only_loss": False},
        {"assistant_only_loss": True},
        {"truncation_mode": "keep_end"},
        {"dataset_kwargs": {"skip_prepare_dataset": True}},
        {"dataset_kwargs": {"add_special_tokens": False}},
        {"dataset_text_field": "context"},
    ],
)
def test_options_without_a_meaning_for_records_are_refused(tmp_path, tiny_model, tokenizer, records, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.*one of TRL's formats"):
        tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, records[:4], **options)


@pytest.mark.parametrize(
    "row",
    [{"text": "3+4=7"}, {"messages": [{"role": "user", "content": "3+4=?"}, {"role": "assistant", "content": "7"}]}],
)
def test_a_completion_that_is_not_there_is_said(tmp_path, tiny_model, tokenizer, row):
    with pytest.raises(ValueError, match="completion_only_loss=True: the train data set .* no completion"):
        tiny_trainer(
            *(CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, [row] * 4), completion_only_loss=True
        )


def test_they_work_on_the_formats_of_trl(tmp_path, tiny_model, tokenizer, records):
    """As in TRL: the same labels."""
    turns = [
        [{"role": "user", "content": record["context"]}, {"role": "assistant", "content": record["answer"]}]
        for record in records[:4]
    ]
    formats = {
        "messages": [{"messages": turn} for turn in turns],
        "text": [{"text": record["context"]} for record in records[:4]],
        "prompt": [{"prompt": record["context"], "completion": record["answer"]} for record in records[:4]],
    }
    options = {
        "text": [{"truncation_mode": "keep_end", "max_length": 16}],
        "prompt": [{"completion_only_loss": False}, {}],
        "messages": [{}],
    }
    for name, rows in formats.items():
        for settings in options[name]:
            ours = tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, rows, **settings)
            theirs = tiny_trainer(SFTTrainer, SFTConfig, tmp_path, tiny_model, tokenizer, rows, **settings)
            assert ours.train_dataset["labels"] == theirs.train_dataset["labels"]
    for overlong in ("split", "error"):
        with pytest.raises(ValueError, match=f"overlong='{overlong}' is for records"):
            tiny_trainer(
                CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, formats["text"], overlong=overlong
            )
    with pytest.raises(ValueError, match="no example is left after max_length=4"):
        tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, formats["prompt"], max_length=4)


def test_streams(tmp_path, tiny_model, tokenizer, records, caplog):
    def make(rows, **settings):
        stream = IterableDataset.from_generator(lambda: iter(rows))
        return tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, stream, **settings)

    with pytest.raises(ValueError, match="train data set is empty"):
        make([])
    with pytest.raises(ValueError, match="no example is left after max_length=10"):
        make(records[:8], max_length=10)
    with pytest.raises(ValueError, match="an example of .* tokens is over max_length=80"):
        make(records[:8], max_length=80, overlong="error").train()
    make(records[:8], max_length=100).train()
    assert "examples over max_length=100 are not counted, and dropped as they come" in caplog.text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda rows: rows, "got a list"),
        (lambda rows: DatasetDict(train=Dataset.from_list(rows)), "got a DatasetDict"),
    ],
)
def test_a_training_set_that_is_none(tiny_model, records, data, message):
    with pytest.raises(TypeError, match=message):
        CoTSFTTrainer(tiny_model, None, train_dataset=data(records[:2]))


def test_a_training_set_without_targets_is_refused(tmp_path, tiny_model, tokenizer, records, caplog):
    rows = [encode(record, tokenizer) for record in records[:4]]
    empty = [{**row, "labels": [-100] * len(row["labels"])} for row in rows]
    make = partial(tiny_trainer, CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer)
    with pytest.raises(ValueError, match="no token counts in the loss"):
        make(empty)
    plain = [{name: row[name] for name in ("input_ids", "labels")} for row in empty]
    with pytest.raises(ValueError, match="no example is left.*or none has a label"):
        make(plain)
    with pytest.raises(ValueError, match="no token counts in the loss.*bare answers have no thought"):
        make([{**record, "steps": []} for record in records[:4]], answer_weight=0.0)
    assert make(rows, empty).evaluate()["eval_loss"] == 0
    assert "eval data set: no token counts in the loss" in caplog.text
    # some batches without a target are no fault
    trainer = make([*empty, *rows], train_sampling_strategy="sequential")
    trainer.train()
    assert logged(trainer)[0] == 0 and logged(trainer)[1] > 5


def test_a_batch_that_weighs_nothing_costs_nothing(tmp_path, tiny_model, tokenizer, records):
    """Only answers have a weight, and there are none in this batch: no NaN in training or evaluation."""
    settings = {"thought_weight": 0.0, "answer_weight": 1.0}
    trainer = tiny_trainer(
        CoTSFTTrainer, CoTSFTConfig, tmp_path, tiny_model, tokenizer, records, records[:4], None, **settings
    )
    batch = first_batch(trainer)
    batch["segment_ids"] = batch["segment_ids"].clamp(max=1)
    trainer._first_batch_checked = True
    for training in (True, False):
        loss = trainer.compute_loss(trainer.model.train(training), dict(batch))
        assert loss.item() == 0


def test_saved_arguments_hold_no_secret_and_no_path(tmp_path, tiny_model, records, tokenizer):
    settings = {"hub_token": "hf_secret", "model_init_kwargs": {"token": "hf_secret", "revision": "main"}}
    trainer = tiny_trainer(CoTSFTTrainer, CoTSFTConfig, tmp_path / "out", tiny_model, tokenizer, records, **settings)
    trainer.save_model()
    content = (tmp_path / "out" / "training_args.bin").read_bytes()
    assert b"hf_secret" not in content and str(tmp_path).encode() not in content
    saved = torch.load(tmp_path / "out" / "training_args.bin", weights_only=False)
    assert saved.output_dir == "out" and saved.hub_token is None and saved.model_init_kwargs == {"revision": "main"}
    assert trainer.args.hub_token == "hf_secret"
