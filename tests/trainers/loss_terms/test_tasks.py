"""Several tasks: classification by label words against the plain formula, weights, columns, bad input."""

import copy

import pytest
from datasets import IterableDataset
from tiny import assert_training_loss_is, evaluation_loss, first_batch, tiny_trainer, training_loss

from hf_reason.data.record import make_record
from hf_reason.text import encode
from hf_reason.text.spans import ANSWER
from hf_reason.trainers import CoTSFTConfig, CoTSFTTrainer, DistillKLConfig
from hf_reason.trainers.loss_terms.tasks import TaskTable, parse_tasks

JUDGE = "判断题"
# the byte-level tokenizer writes these with several tokens, some of them shared
TASKS = {JUDGE: {"kind": "classification", "labels": ["对", "错", "不对"], "weight": 2.0}, "计算": {"weight": 0.5}}


def _record(number, answer, steps=("3+4=7",), task=JUDGE):
    return make_record(f"第{number}题:3+4=7,这样算对吗?", list(steps), answer, task=task, domain="math")


@pytest.fixture
def rows(records):
    judged = [_record(1, "对"), _record(2, "错", ()), _record(3, "不对"), _record(4, "7个", task="计算")]
    return [*judged, *records[:4]]


def _trainer(tmp_path, model, tokenizer, rows, **options):
    return tiny_trainer(
        CoTSFTTrainer, CoTSFTConfig, tmp_path, model, tokenizer, rows, rows, **{"tasks": TASKS, **options}
    )


def _answer(record, tokenizer):
    encoded = encode(record, tokenizer)
    return [t for t, s in zip(encoded["input_ids"], encoded["segment_ids"], strict=True) if s == ANSWER]


def _plain_loss(model, batch, rows, tokenizer, smoothing=0.0):
    """From the definition: all logits; a label's token among the next tokens of the labels that begin alike."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()
    total = weight = 0.0
    for row in range(logits.shape[0]):
        task = int(batch["task_ids"][row].max())
        factor = {0: 1.0, 1: 2.0, 2: 0.5}[task]
        answer: list[int] = []
        labels = [_answer({**rows[row], "answer": label}, tokenizer) for label in TASKS[JUDGE]["labels"]]
        for place in range(1, logits.shape[1]):
            target = int(batch["labels"][row, place])
            if target < 0:
                continue
            scores, cost = logits[row, place - 1], None
            if task == 1 and batch["segment_ids"][row, place] == ANSWER:
                allowed = sorted({t[len(answer)] for t in labels if t[: len(answer)] == answer})
                if len(allowed) > 1:
                    cost = -scores[allowed].log_softmax(-1)[allowed.index(target)]
                answer.append(target)
            if cost is None:
                log_p = scores.log_softmax(-1)
                cost = -(1 - smoothing) * log_p[target] - smoothing * log_p.mean()
            total, weight = total + factor * cost, weight + factor
    return total / weight


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_equals_the_plain_formula(tmp_path, tiny_model, tokenizer, rows, smoothing):
    trainer = _trainer(tmp_path, tiny_model, tokenizer, rows, label_smoothing_factor=smoothing)
    batch = first_batch(trainer, 8)
    assert (batch["choice_ids"] > 0).any()
    reference = copy.deepcopy(tiny_model).train()
    expected = _plain_loss(reference, batch, rows, tokenizer, smoothing)
    assert_training_loss_is(trainer, batch, expected, reference)
    assert evaluation_loss(trainer, batch) == pytest.approx(expected.item(), abs=1e-5)


def test_packed_loss_equals_padded_loss(tmp_path, tiny_model, tokenizer, rows):
    losses = []
    for packing in (False, True):
        trainer = _trainer(
            tmp_path, tiny_model, tokenizer, rows, packing=packing, per_device_train_batch_size=8, max_length=256
        )
        losses.append(training_loss(trainer, first_batch(trainer, None)).item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_labels_are_learned_and_their_accuracy_is_logged(tmp_path, tiny_model, tokenizer):
    texts = {"对": "苹果苹果苹果苹果", "错": "桌子桌子桌子桌子"}
    rows = [
        make_record(f"{text}{n}", [], label, task=JUDGE, domain="math")
        for n in range(4)
        for label, text in texts.items()
    ]
    trainer = _trainer(
        tmp_path, tiny_model, tokenizer, rows, max_steps=40, per_device_train_batch_size=8, learning_rate=3e-2
    )
    before = trainer.evaluate()["eval_choice_accuracy"]
    trainer.train()
    after = trainer.evaluate()["eval_choice_accuracy"]
    assert after == 1.0 > before
    assert any("choice_accuracy" in row for row in trainer.state.log_history if "loss" in row)


def test_columns_mark_where_the_labels_part(tokenizer):
    table = TaskTable(parse_tasks(TASKS), tokenizer)
    record = _record(1, "不对")
    encoded = encode(record, tokenizer)
    columns = table.columns(record, encoded)
    first = encoded["segment_ids"].index(ANSWER)
    assert not any(columns["choice_ids"][:first])
    ids = columns["choice_ids"][first]
    starts = {tokenizer(label, add_special_tokens=False)["input_ids"][0] for label in ("对", "错", "不对")}
    assert set(table.choices[ids]) - {-1} == starts
    assert set(columns["task_ids"]) == {1}
    assert table.weights == [1.0, 2.0, 0.5]
    plain = make_record("1+1?", ["1+1=2"], "2", domain="math")
    assert not any(table.columns(plain, encode(plain, tokenizer))["choice_ids"])


def test_an_answer_that_is_no_label_names_the_record(tmp_path, tiny_model, tokenizer, rows):
    wrong = _record(9, "也许")
    with pytest.raises(ValueError, match=f"{wrong['id']}.*也许.*对, 错, 不对"):
        _trainer(tmp_path, tiny_model, tokenizer, [*rows, wrong])


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"a": {"kind": "regression"}}, "generation or classification"),
        ({"a": {"kind": "classification", "labels": ["x"]}}, "two or more"),
        ({"a": {"kind": "classification", "labels": ["x", "x"]}}, "two or more different"),
        ({"a": {"labels": ["x", "y"]}}, "a generation none"),
        ({"a": {"wieght": 1}}, "wieght"),
        ({"a": {"weight": -1}}, "negative"),
        ({"a": {"weight": 0}}, "every weight is 0"),
        ("{not json", "not JSON"),
    ],
)
def test_bad_tasks_are_refused(tmp_path, tasks, message):
    with pytest.raises(ValueError, match=message):
        CoTSFTConfig(str(tmp_path), tasks=tasks, use_cpu=True, bf16=False)


@pytest.mark.parametrize("options", [{"tasks": TASKS}, {"mixup_alpha": 0.2}])
def test_a_teacher_refuses_what_it_cannot_score(tmp_path, options):
    with pytest.raises(ValueError, match="a teacher does not know"):
        DistillKLConfig(str(tmp_path), teacher_model_name_or_path="x", use_cpu=True, bf16=False, **options)


def test_split_chains_keep_their_columns(tmp_path, tiny_model, tokenizer):
    """A chain that is cut at its steps: the task on every piece, the choices on the one with the answer."""
    long = _record(1, "不对", [f"{n}+{n}={2 * n}" for n in range(3, 9)])
    whole = _trainer(tmp_path, tiny_model, tokenizer, [long])
    pieces = _trainer(tmp_path, tiny_model, tokenizer, [long], overlong="split", max_length=80)
    (row,), rows = list(whole.train_dataset), list(pieces.train_dataset)
    assert len(rows) > 1 and all(set(piece["task_ids"]) == {1} for piece in rows)
    assert all(not any(piece["choice_ids"]) for piece in rows[:-1])
    answer = sum(segment == ANSWER for segment in row["segment_ids"])
    assert rows[-1]["choice_ids"][-answer:] == row["choice_ids"][-answer:] and any(rows[-1]["choice_ids"])


def test_split_chains_of_a_stream_keep_their_columns(tmp_path, tiny_model, tokenizer):
    long = [_record(number, "不对", [f"{n}+{n}={2 * n}" for n in range(3, 9)]) for number in (1, 2)]
    options = {"overlong": "split", "max_length": 80}
    expected = _trainer(tmp_path, tiny_model, tokenizer, long, **options)
    stream = IterableDataset.from_generator(lambda: iter(long))
    streamed = _trainer(tmp_path, tiny_model, tokenizer, stream, **options)
    rows = list(streamed.train_dataset)
    assert len(rows) > 2 and rows == list(expected.train_dataset)
