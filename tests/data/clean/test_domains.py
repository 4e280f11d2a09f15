"""Domains: the built-in rules on texts of each domain, hints of sources, and rules of one's own."""

from pathlib import Path

import pytest
import yaml
from cpu_time import ends_within
from opencc import OpenCC

from hf_reason.data.clean import domains
from hf_reason.data.clean.domains import DomainTagger
from hf_reason.data.record import DOMAINS, DataError
from hf_reason.data.synthetic.word_problems import generate_word_problems


@pytest.fixture(scope="module")
def tagger() -> DomainTagger:
    return DomainTagger()


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("央行下调利率后，债券价格和股市通常会怎样变化？请说明货币政策的传导。", "finance"),
        ("Explain how rising interest rates affect bond yields and a company's balance sheet.", "finance"),
        ("患者男，56岁，反复咳嗽伴发热三天，血压150/90，既往有糖尿病，应如何诊断和治疗？", "medical"),
        ("A patient presents with fever and chest pain; which diagnosis and treatment fit?", "medical"),
        ("甲乙双方签订合同后乙方违约，原告向法院提起诉讼，被告应承担什么赔偿责任？", "legal"),
        ("Can the plaintiff sue for breach of contract in this jurisdiction under the statute?", "legal"),
        ("为什么光合作用需要光？植物细胞中的能量如何转化？", "science"),
        ("What happens to the momentum of an electron in a magnetic field?", "science"),
        ("学校把135本练习本平均分给3个班，每班多少本？", "math"),
        ("48.83+126.3再减去45，结果=？", "math"),
        ("Natalia sold clips to 48 of her friends. How many clips did she sell?", "math"),
        ("Find the value of $x^2$ if $x = 3$.", "math"),
        ("用Python写一个函数，判断链表是否有环，并分析时间复杂度。", "code"),
        ("Why does this code throw?\n```\nimport os\n```", "code"),
        ("唐朝的诗人李白和杜甫的诗歌风格有什么不同？", "humanities"),
        ("How did the Renaissance change European painting and philosophy?", "humanities"),
        ("企业采用加速折旧法对当期利润和税款有什么影响？", "finance"),
        ("胃食管反流患者饮食上应该注意什么？", "medical"),
        ("入室盗窃被发现后使用暴力，如何定性？", "legal"),
        ("为什么雷雨天先看到闪电后听到雷声？", "science"),
        ("安史之乱为什么成为唐朝由盛转衰的转折点？", "humanities"),
        ("周末适合去哪里散步？", "general"),
        ("Which sandwich do you like best?", "general"),
        ("", "general"),
    ],
)
def test_texts_of_each_domain(tagger: DomainTagger, text: str, domain: str) -> None:
    assert tagger.tag(text) == domain


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("两个3欧的电阻并联后接在6伏电源上，总电流是多少？", "science"),
        ("快速排序在有1000个元素的数组上最坏要比较多少次？", "code"),
        ("医嘱静脉滴注500毫升，4小时输完，滴系数为每毫升20滴，每分钟多少滴？", "medical"),
        ("一台设备原值50000元，净残值2000元，按直线法每年计提折旧多少元？", "finance"),
        ("员工工作满8个月未签劳动合同，可以主张几个月的双倍工资？", "legal"),
        ("写一个Python函数，求两个数的最大公约数。", "code"),
        ("书法小组有12人，合唱队的人数是它的3倍，合唱队有多少人？", "math"),
        ("一台冰箱978元，一台洗衣机645元，冰箱比洗衣机贵多少元？", "math"),
        ("小明从山下走到山顶用了40分钟，每分钟走25米，一共走了多少米？", "math"),
        ("Sam baked 24 cookies and ate 5 of them. How many cookies are left?", "math"),
    ],
)
def test_terms_of_a_field_outweigh_numbers_and_plain_words_do_not(
    tagger: DomainTagger, text: str, domain: str
) -> None:
    assert tagger.tag(text) == domain


@pytest.mark.parametrize(
    "text",
    [
        "以每股29元买入19股股票,手续费4元,一共需要多少元?",
        "某投资者以每股15元买入200股,后以每股18元全部卖出,手续费共30元,获利多少元?",
        "小李买入100股股票,每股12元,佣金5元,总成本是多少元?",
        "本金5000元存入银行,年利率3%,存2年,到期利息是多少元?",
        "张先生贷款10万元,年利率5%,按单利计算,3年后应还本息多少元?",
        "一只股票从每股20元涨到每股25元,持有300股可以赚多少元?",
        "公司给每位股东按每股0.5元分红,王阿姨持有800股,她能分到多少元?",
        "以每股35元卖出40股股票,扣除手续费7元,到账多少元?",
        "基金净值1.25元,买入2000份,手续费率1.5%,需要支付多少元?",
        "债券面值100元,票面利率4%,持有50张,每年能得到多少元利息?",
        "把8000元存入银行三年,年利率2.75%,到期后本息一共多少元?",
        "投资10000元,第一年收益率8%,第二年收益率5%,两年后一共是多少元?",
        "以100元申购基金份额50份,赎回时每份净值1.2元,赎回费2元,最后得到多少元?",
        "小王以每股8元买入500股,又以每股10元买入300股,平均每股成本是多少元?",
        "某股票每股收益2元,市盈率15倍,每股价格是多少元?",
        "用2000美元兑换人民币,汇率是7.1,手续费20元,实际得到多少元?",
        "月供3000元,其中利息1200元,那么本月偿还本金多少元?",
        "存款20000元,月利率0.2%,半年的利息是多少元?",
        "卖出手中的60股股票,每股成交价22元,印花税2元,净收入是多少元?",
        "一张信用卡账单4000元,分12期还款,每期手续费24元,每期应还多少元?",
        "某人以每股6元的价格买入股票1000股,跌到每股5元时全部卖出,亏损了多少元?",
        "李女士买了5手股票,每手100股,每股3元,交易手续费10元,共付多少元?",
    ],
)
def test_problems_about_money_that_works_are_finance(tagger: DomainTagger, text: str) -> None:
    assert tagger.tag(text) == "finance"


@pytest.mark.parametrize(
    "text",
    [
        "小明有3个苹果,又买来4个,一共有多少个苹果?",
        "水果店卖出苹果15千克,每千克6元,一共收入多少元?",
        "妈妈买了5千克苹果,每千克8元,付给售货员50元,应找回多少元?",
        "一箱苹果有24个,平均分给6个小朋友,每人几个?",
        "商店以每件80元的进价买入50件衣服,以每件120元卖出,一共赚了多少元?",
        "学校买入15个足球,每个45元,一共花了多少元?",
        "小红买入3本练习本,每本2元,又买了一支5元的钢笔,一共花了多少元?",
        "果园里有苹果树120棵,梨树比苹果树少30棵,两种树共有多少棵?",
        "一支水彩笔12元,买9支一共要多少元?",
        "食堂买来大米200千克,每千克4元,面粉花了150元,一共花了多少元?",
        "一股水流每分钟流出15升水,8分钟流出多少升水?",
        "把一根绳子分成3股,每股长2米,绳子一共用了多少米?",
        "商店运来苹果25箱,卖出18箱,还剩多少箱?",
        "甲有邮票30张,乙比甲多12张,两人共有多少张?",
        "电影票每张35元,4张票一共多少元,用200元付款应找回多少元?",
        "三根绳子拧成一根,每股长5米,一共多少米?",
        "李师傅每天加工零件48个,6天一共加工多少个零件?",
    ],
)
def test_problems_about_apples_and_prices_stay_math(tagger: DomainTagger, text: str) -> None:
    assert tagger.tag(text) == "math"


@pytest.mark.parametrize("domain", ["math", "finance"])
def test_generated_problems_are_told_apart_without_their_column(tagger: DomainTagger, domain: str) -> None:
    rows = generate_word_problems(300, domain=domain)
    assert {tagger.tag(row["context"]) for row in rows} == {domain}


def test_the_chain_speaks_where_the_problem_says_nothing(tagger: DomainTagger) -> None:
    chain = "先看溶液的酸碱性。\n盐酸使指示剂变红。\n氢氧化钠使它变蓝。"
    assert tagger.tag("它会变成什么颜色？") == "general"
    assert tagger.tag("它会变成什么颜色？", chain=chain) == "science"
    assert tagger.tag("它会变成什么颜色？", "医学", chain) == "medical"
    assert tagger.tag("央行下调利率后，债券价格怎样变化？", chain=chain) == "finance"
    # One word in passing is not enough.
    assert tagger.tag("怎样挑选一个成熟的西瓜？", chain="看纹路。\n拍一拍，听声音。\n别看价格。") == "general"


@pytest.mark.parametrize(
    ("hint", "domain"),
    [
        ("math", "math"),
        ("Math", "math"),
        ("医学", "medical"),
        ("law", "legal"),
        ("Computer Science", "code"),
        ("computer_science", "code"),
        ("Math/Algebra", "math"),
        ("Counting & Probability", "math"),
        ("Social Sciences", "humanities"),
        ("其他", "general"),
    ],
)
def test_the_name_a_source_uses_decides(tagger: DomainTagger, hint: str, domain: str) -> None:
    assert tagger.tag("唐朝的诗人李白和杜甫的诗歌风格有什么不同？", hint) == domain


@pytest.mark.parametrize("hint", [None, "", "blue", "math/law", "haijian/advanced"])
def test_a_hint_that_says_nothing_is_ignored(tagger: DomainTagger, hint: str | None) -> None:
    assert tagger.tag("唐朝的诗人李白和杜甫的诗歌风格有什么不同？", hint) == "humanities"


def test_english_words_match_whole_words(tmp_path: Path) -> None:
    rules = {"domains": {"science": {"words": ["atom"]}}}
    tagger = DomainTagger(write_rules(tmp_path, rules))
    assert tagger.tag("two Atoms") == tagger.tag("an atom.") == "science"
    assert tagger.tag("anatomy and atomic") == "general"


def test_built_in_rules_are_broad() -> None:
    entries = yaml.safe_load(domains._BUILT_IN.read_text(encoding="utf-8"))["domains"]
    assert set(entries) == set(DOMAINS)
    for domain, entry in entries.items():
        words = [word for group in entry["words"].values() for word in group]
        assert domain == "general" or len(words) >= 200
        assert len(words) == len(set(words))
        assert domain == "general" or {word[0].isascii() for word in words} == {True, False}


def write_rules(folder: Path, rules: object) -> Path:
    path = folder / "rules.yaml"
    path.write_text(rules if isinstance(rules, str) else yaml.safe_dump(rules, allow_unicode=True), encoding="utf-8")
    return path


def test_own_rules_replace_the_built_in_ones(tmp_path: Path) -> None:
    rules = {
        "min_score": 2,
        "domains": {"legal": {"words": {2: ["粉笔"], 1: ["黑板"]}}, "code": {"patterns": {3: [r"\d{4}"]}}},
        "aliases": {"legal": ["校规"]},
    }
    tagger = DomainTagger(write_rules(tmp_path, rules))
    assert tagger.tag("一支粉笔") == "legal"
    assert tagger.tag("一块黑板") == "general"
    assert tagger.tag("黑板，黑板") == "legal"
    assert tagger.tag("粉笔 2024") == "code"
    assert tagger.tag("任何话", "校规") == "legal"
    assert tagger.tag("患者糖尿病诊断治疗") == "general"


def test_a_word_of_two_domains_counts_for_both(tmp_path: Path) -> None:
    rules = {"domains": {"finance": {"words": {2: ["杠杆", "lever"]}}, "science": {"words": {3: ["杠杆", "lever"]}}}}
    tagger = DomainTagger(write_rules(tmp_path, rules))
    assert tagger.tag("杠杆") == tagger.tag("a lever") == "science"


def test_a_chinese_word_may_start_with_a_letter(tmp_path: Path) -> None:
    tagger = DomainTagger(write_rules(tmp_path, {"domains": {"medical": {"words": ["B超"]}}}))
    assert tagger.tag("做了b超检查") == "medical"
    assert tagger.tag("b 超") == "general"


def test_a_word_counts_three_times_at_most_and_the_longest_word_wins(tmp_path: Path) -> None:
    rules = {"domains": {"math": {"words": {1: ["数", "数据"], 5: ["数据库"]}}, "code": {"words": {4: ["循环"]}}}}
    tagger = DomainTagger(write_rules(tmp_path, rules))
    assert tagger.tag("数数数数数数数 循环") == "code"
    assert tagger.tag("数据库 循环") == "math"


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"domains": {"cooking": {"words": ["盐"]}}}, "domains.cooking is not a domain"),
        ({"domains": {}, "aliases": {"cooking": ["food"]}}, "aliases.cooking is not a domain"),
        ({"words": {}}, "domains is missing"),
        ({"domains": {}, "domain": {}}, "domain is not a key"),
        ({"domains": {"math": ["数"]}}, "domains.math must have"),
        ({"domains": {"math": {"words": {0: ["数"]}}}}, "domains.math.words.0 must be a positive weight"),
        ({"domains": {"math": {"words": {1: [True]}}}}, "domains.math.words.1 must be a list of strings"),
        ({"domains": {"math": {"patterns": ["("]}}}, "domains.math.patterns .* not a regular expression"),
        ({"domains": {}, "min_score": "3"}, "min_score must be a number"),
        ("domains: [", "not valid YAML"),
        ("- a\n", "domains is missing"),
    ],
)
def test_bad_rules_name_the_file_and_the_key(tmp_path: Path, rules: object, message: str) -> None:
    path = write_rules(tmp_path, rules)
    with pytest.raises(DataError, match=message) as error:
        DomainTagger(path)
    assert str(path) in str(error.value)


def test_missing_rules_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the domain rules"):
        DomainTagger(tmp_path / "none.yaml")


QUESTIONS = yaml.safe_load(Path(__file__).with_name("domain_questions.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("kind", "least"), [("plain", 0.99), ("traps", 0.97)])
def test_questions_that_a_person_labelled(tagger: DomainTagger, kind: str, least: float) -> None:
    cases = [(domain, text) for domain in DOMAINS for text in QUESTIONS[domain][kind]]
    assert len(cases) > 250
    wrong = [(domain, tagger.tag(text), text) for domain, text in cases if tagger.tag(text) != domain]
    assert len(wrong) <= (1 - least) * len(cases), wrong


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("What is the capital of France?", "general"),
        ("What is the function of the heart?", "medical"),
        ("How do I keep the interest of the reader?", "general"),
        ("Who is the prime minister?", "general"),
        ("Which set of laws applies to the tenant?", "legal"),
        ("Are derivative works protected by copyright?", "legal"),
        ("Find the derivative of x^2.", "math"),
        ("How do banks hedge with derivatives?", "finance"),
        ("What is the law of conservation of energy?", "science"),
        ("Write a function that computes simple interest.", "code"),
        ("股骨骨折怎么治疗?", "medical"),
        ("期末考试怎么复习?", "general"),
        ("期权到期怎么行权?", "finance"),
        ("法国有哪些景点?", "general"),
        ("有什么好方法?", "general"),
        ("这张药方怎么煎?", "medical"),
        ("解方程 2x+3=7", "math"),
        ("The stock of the ship was full.", "general"),
        ('Generate a long passage from "The Fault in Our Stars" by John Green', "general"),
        ('Generate a long passage from "Men Are from Mars, Women Are from Venus" by John Gray', "general"),
        ('If "A group sit on a roof near a satellite dish." does that mean that "It is a party."?', "general"),
        ('Explain the term "quantitative easing".', "finance"),
        ("《民法典》第五百条规定了什么?", "legal"),
        ('用Python写一个函数,判断"abc"是不是回文。', "code"),
    ],
)
def test_words_that_mean_something_else(tagger: DomainTagger, text: str, domain: str) -> None:
    assert tagger.tag(text) == domain


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("What are the functions of the skin?", "medical"),
        ("Which organ system has the function of digestion?", "medical"),
        ("What are the functions of blood?", "medical"),
        ("心臟有什麼功能？", "medical"),
        ("皮肤的功能有哪些？", "medical"),
        ("肝脏有什么作用？", "medical"),
        ("What are the functions of a parliament?", "general"),
        ("What is the derivatives market?", "finance"),
        ("What is 2 to the power of 10?", "math"),
        ("What is the volume of a sphere of radius 3?", "math"),
        ("What is an acute angle?", "math"),
        ("What are the zeros of the function f?", "math"),
    ],
)
def test_functions_volumes_and_powers_of_what(tagger: DomainTagger, text: str, domain: str) -> None:
    assert tagger.tag(text) == domain


def test_traditional_texts_get_the_domain_of_the_simplified_ones(tagger: DomainTagger) -> None:
    converter = OpenCC("s2tw")
    texts = [text for domain in DOMAINS for kind in ("plain", "traps") for text in QUESTIONS[domain][kind]]
    texts = [text for text in texts if not text.isascii()]
    assert len(texts) > 200
    assert [text for text in texts if tagger.tag(converter.convert(text)) != tagger.tag(text)] == []


def test_common_words_of_a_domain_count_only_with_numbers(tmp_path: Path) -> None:
    rules = {"domains": {"math": {"words": {1: ["每天"], 3: ["方程"]}}}, "only_with_numbers": ["math"], "min_score": 1}
    tagger = DomainTagger(write_rules(tmp_path, rules))
    assert tagger.tag("每天") == "general"
    assert tagger.tag("每天3次") == tagger.tag("方程") == "math"
    with pytest.raises(DataError, match="only_with_numbers must be a list"):
        DomainTagger(write_rules(tmp_path, {**rules, "only_with_numbers": "math"}))


def test_two_domains_with_the_same_score_are_undecided(tmp_path: Path) -> None:
    rules = {"domains": {"math": {"words": {3: ["数"]}}, "code": {"words": {3: ["码"]}}}}
    tagger = DomainTagger(write_rules(tmp_path, rules))
    assert (tagger.tag("数"), tagger.tag("码"), tagger.tag("数码")) == ("math", "code", "general")


def test_the_longest_english_phrase_counts(tmp_path: Path) -> None:
    rules = {"domains": {"finance": {"words": ["capital"]}, "general": {"words": {0.01: ["capital of"]}}}}
    tagger = DomainTagger(write_rules(tmp_path, rules))
    assert tagger.tag("the capital of France") == "general"
    assert tagger.tag("the company's capital") == "finance"


def test_no_text_takes_long(tagger: DomainTagger) -> None:
    parts = ("1 ", "each how many 3 ", "每3多少,", "写", "write a ", "法律", "\n", "can sue not ")
    assert ends_within(3, lambda: [tagger.tag(part * 4000) for part in parts])
