"""Back-translation with a translator made here: figures are protected, bad ones thrown away, nothing done twice."""

import re
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_reason.augment import BackTranslation
from hf_reason.augment.protection import paraphrase_fault, protect, restore
from hf_reason.augment.translators import translation_in
from hf_reason.data.record import make_record

FAST = settings(max_examples=60, deadline=None, derandomize=True)
STEPS = [
    "小明原来有12个苹果，又买来25个，一共有12+25=37个苹果",
    "他把其中的三分之一送给了朋友",
    "12+25=37",
    "由 $x^2=9$ 得到 x 的值",
]


class Words:
    """Translates by writing words in another order; what `break_` does to a text comes on top."""

    def __init__(self, break_=lambda text: text):
        self.identity, self.failures, self.break_ = {"model": "words"}, {}, break_
        self.asked = []

    def translate(self, texts, source, target):
        self.asked += [(text, source) for text in texts]
        for index, text in enumerate(texts):
            if target == "en":
                yield [(index, "In English: " + text)]
            else:
                yield [(index, self.break_("也就是说，" + text.removeprefix("In English: ")))]


@FAST
@given(
    st.text(st.sampled_from(list("小明有个苹果 apples are12345.+-×=()[]$%/,，。x一二十百\n三分之【】")), max_size=60)
)
def test_what_is_protected_comes_back(text):
    marked, kept = protect(text, "苹果")
    assert restore(marked, kept) == text
    assert not re.search(r"\d", re.sub(r"\[\d+\]", "", marked))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (STEPS[0], ["12", "25", "12+25=37"]),
        ("3个+4个=7个苹果", ["3个+4个=7"]),
        ("价格是¥12.50，打八五折", ["¥12.50", "八五"]),
        ("所以 $a+b$ 等于 `f(2)`", ["$a+b$", "`f(2)`"]),
        ("It costs $3.50, so 2 × $3.50 = $7", ["$3.50", "2 × $3.50 = $7"]),
        ("答案是李白", ["李白"]),
        ("气温是-5度，在第3-5页", ["-5", "3-5"]),
        ("增长１２％，走了②千米，余额 -$12", ["１２％", "②", "-$12"]),
    ],
)
def test_what_is_protected(text, kept):
    assert protect(text, "李白")[1] == kept


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("甲有12个苹果", "甲拥有12个苹果", None),
        ("甲有12个苹果", "甲有12个苹果", "unchanged"),
        ("甲有12个苹果", "甲拥有21个苹果", "lost figure"),
        ("甲有12个苹果", "甲拥有一些苹果", "lost figure"),
        ("甲有12个苹果", "甲的12个苹果分3天", "new figure"),
        ("甲有三个苹果", "甲拥有苹果", "lost figure"),
        ("甲有苹果", "甲拥有五个苹果", "new figure"),
        ("甲有12个苹果,12+3=15", "甲拥有12个苹果,12,3=15", "other equation"),
        ("由$a$得到结果", "由此得到结果了", "other formula"),
        ("作者应当是李白", "作者应当是杜甫啊", "other answer"),
        ("气温是-5度所以冷", "所以冷，气温是5度", "lost figure"),
        ("余额变成 -$12 了", "余额成了 $12", "lost figure"),
        ("利润为－２０万元", "利润是－２０万元", None),
        ("利润为－２０万元", "利润为２０万元了", "lost figure"),
        ("他走了②千米才到家", "他走了③千米才到家", "lost figure"),
        ("第3-5页一共有3页", "一共有3页，是第3-5页", None),
        ("甲有苹果", "", "empty"),
        ("甲有苹果", "</think>甲有苹果", "markup"),
        ("甲有苹果", "甲有苹果，这里要说明的是这句话的译文如上所述，另外还有别的译法", "length"),
        ("甲把苹果给了乙", "A gave it to B", "other language"),
        ("催化剂降低活化能", "catalyst降低了活化能", "other language"),
        ("The catalyst lowers it", "The 催化剂 lowers it all", "other language"),
        ("甲把苹果给了乙", "请翻译成中文:苹果", "instruction"),
        ("请翻译这个词", "请把这个词翻译一下", None),
    ],
)
def test_what_is_thrown_away(old, new, fault):
    assert paraphrase_fault(old, new, "李白") == fault


@FAST
@given(st.text(st.sampled_from(list("有个苹果。12345+=一三[]")), max_size=30), st.sampled_from(STEPS))
def test_whatever_a_translator_writes_the_figures_stay(output, step):
    record = make_record("小明有12个苹果，又买来25个。", [step], "37个")
    with tempfile.TemporaryDirectory() as folder:
        operation = BackTranslation(Words(lambda text: output), folder, 1.0)
        operation.prepare([record])
        made = operation.apply(record, 0)
    if not isinstance(made, str):
        (item,) = made
        assert all(item.row[name] == record[name] for name in record if name not in ("id", "steps"))
        assert sorted(re.findall(r"\d+", item.row["steps"][0])) == sorted(re.findall(r"\d+", step))
        assert paraphrase_fault(step, item.row["steps"][0], record["answer"]) is None


def test_steps_are_paraphrased_counted_and_cached(tmp_path):
    record = make_record("小明有12个苹果，又买来25个。", STEPS, "37个")
    translator = Words()
    operation = BackTranslation(translator, tmp_path, 1.0)
    operation.prepare([record, {**record, "id": "other"}])
    (item,) = operation.apply(record, 0)
    assert item.row["steps"][:3] == ["也就是说，" + STEPS[0], "也就是说，" + STEPS[1], STEPS[2]]
    assert item.row["id"] != record["id"] and item.detail == "3 of 4 steps"
    assert operation.parts == {"paraphrases": 3, "nothing to translate": 1}
    assert len(translator.asked) == 6 and not any("12" in text for text, _ in translator.asked)

    another = Words()
    operation = BackTranslation(another, tmp_path, 1.0)
    operation.prepare([record])
    assert not another.asked and operation.apply(record, 0)[0].row == item.row


def test_a_paraphrase_that_loses_a_figure_is_thrown_away(tmp_path):
    record = make_record("小明有12个苹果，又买来25个。", STEPS, "37个")
    operation = BackTranslation(Words(lambda text: text.replace("[2]", "")), tmp_path, 1.0)
    operation.prepare([record])
    (item,) = operation.apply(record, 0)
    assert item.row["steps"][0] == STEPS[0] and item.row["steps"][1] != STEPS[1]
    assert operation.parts["thrown away: lost figure"] == 1
    operation = BackTranslation(Words(lambda text: ""), tmp_path / "b", 1.0)
    operation.prepare([record])
    assert operation.apply(record, 0) == "no step has a usable paraphrase"


def test_a_kill_between_two_translations_loses_and_doubles_none(tmp_path):
    record = make_record("小明有12个苹果，又买来25个。", STEPS, "37个")

    class Killed(Words):
        def translate(self, texts, source, target):
            yield next(iter(super().translate(texts[:1], source, target)))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BackTranslation(Killed(), tmp_path, 1.0).prepare([record])
    (journal,) = tmp_path.glob("translations-*.jsonl")
    with open(journal, "ab") as file:
        file.write(b'{"key": "half of a li')
    translator = Words()
    operation = BackTranslation(translator, tmp_path, 1.0)
    operation.prepare([record])
    assert len(translator.asked) == 5  # one of six is there
    assert len(journal.read_bytes().splitlines()) == 7
    assert operation.apply(record, 0)[0].detail == "3 of 4 steps"


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("<think>\nhm\n</think>\n\nHe has [1].", "He has [1]."),
        ("“他有[1]个。”", "他有[1]个。"),
        ("“他”和“她”", "“他”和“她”"),
        (" He has [1].\n", "He has [1]."),
    ],
)
def test_the_translation_in_an_output(output, text):
    assert translation_in(output) == text


@pytest.mark.parametrize("codes", [("zho_Hans", "eng_Latn"), ("zh_CN", "en_XX"), ("__zh__", "__en__")])
def test_multilingual_models_are_told_the_languages(codes):
    from hf_reason.augment import Seq2SeqTranslator

    class Tokenizer:
        src_lang, unk_token_id = None, 0
        known = dict.fromkeys(codes[:1], 5) | dict.fromkeys(codes[1:], 6)

        def convert_tokens_to_ids(self, token):
            return self.known.get(token, self.unk_token_id)

    tokenizer = Tokenizer()
    translator = Seq2SeqTranslator(None, tokenizer, {})
    assert translator._languages("zh", "en") == {"forced_bos_token_id": 6}
    assert tokenizer.src_lang == codes[0].strip("_") and translator._prefix("en") == ""
    tokenizer.supported_language_codes = [">>cmn_Hans<<", ">>jpn<<"]
    assert translator._prefix("zh") == ">>cmn_Hans<< "
    del Tokenizer.known[codes[1]]
    with pytest.raises(ValueError, match="no code for en"):
        translator._languages("zh", "en")
