"""The language of a text: Chinese, English, another script or language, mixtures, and texts without words."""

import pytest

from hf_reason.data.languages import LANGUAGES, cjk_ratio, count_words, detect_language, has_words, is_foreign_prose
from hf_reason.data.record import make_record

TEXTS = {
    "zh": [
        "主人公藤宫晴真（ふじみや はるま），是上奈木（かみなぎ）学园的2年级学生。",
        "保險公司條例草案月底首讀 \n政府建議成立獨立保險業監管局",
        "在△ABC中,AB=AC,BD⊥AC于D,求∠BAC。",
        "使用 Transformer 的 attention 机制,我们可以并行计算每个 token 的表示。",
        "设函数$f(x)=\\sin x+\\cos x$,求$\\lim_{x\\to 0}f(x)$的值。",
        "下面是代码:\n```python\ndef quick_sort(numbers):\n    return numbers\n```\n运行即可。",
        "調用 `numpy.linalg.solve(matrix, vector)` 即可得到解。",
        "請把「これはペンです」翻譯成中文。",
        "把“Привет, как дела”翻译成中文,并说明每个词的意思和用法。",
        "步驟一:先求出總價,然後除以人數。",
        "３＋４＝７，所以答案是７。",
        "3+4=7",
        "αβ=3, Δx=2",
        "",
        "12.5 km/h",
        "助词は和が的区别是什么?",
        "日本动画《となりのトトロ》的导演是谁?",
        "ㄅㄆㄇ是注音符號",
        "约翰·史密斯・李",
        "𠮷野家在哪里",
        "x = 5, y = 3",
    ],
    "en": [
        "Xiao Ming (小明) has 5 apples and gives 2 of them to Xiao Hong (小红). How many are left?",
        "What is the capital of France?",
        "Solve 2x + 7 = 15.",
        "Area of a triangle with base 5 and height 8",
        "Who wrote Les Misérables?",
        "Café Müller sells naïve art near São Paulo.",
        "The word 'привет' means hello in Russian.",
        "Integrate $\\alpha\\beta\\gamma$ over the region.",
        "I went to Tokyo.",
        "Hello",
        "Yes, absolutely!",
        "Largest Brazil city population",
        "def add(a, b):\n    return a + b",
        "```python\nprint('hello world')\n```",
        "Find AB if BC = 3 and AC = 5.",
        "Let $a,b,c$ be positive reals with $abc=1$.",
        "Convert the point $(0,3)$ in rectangular coordinates to polar coordinates.",
        "Calculus quiz: derivative, integral, limit, series, convergence",
    ],
    "mixed": [
        "首先计算总价 First compute the total price of all items then 然后再除以人数得到结果",
        "我们先计算总和。Теперь вычислим сумму всех чисел и разделим на два. 然后再继续。Итак, ответ равен семи.",
    ],
    "other": [
        "人参はβ−カロテン含有量が高く栄養豊富",
        "主人公の栂野 遥平は姉御肌でキャリアウーマンの母親と暮らす",
        "ここ最近、よく拡散されたつぶやきや画像をまとめてご紹介。",
        "PDF 抽出テスト文書",
        "Магазин продал 48 яблок утром и в два раза меньше вечером. Сколько яблок продал магазин?",
        "상점에서 아침에 사과 48개를 팔았습니다. 모두 몇 개를 팔았습니까?",
        "お店は朝に48個のりんごを売りました。全部でいくつ売りましたか。",
        "東京都の人口は約1400万人で、日本の総人口の約11%を占めている。",
        "باع المتجر 48 تفاحة في الصباح. كم تفاحة باع؟",
        "ร้านขายแอปเปิ้ล 48 ลูกในตอนเช้า ขายได้ทั้งหมดกี่ลูก",
        "एक दुकान ने सुबह 48 सेब बेचे। कुल कितने सेब बेचे?",
        "Ένα κατάστημα πούλησε 48 μήλα το πρωί. Πόσα μήλα πούλησε;",
        "חנות מכרה 48 תפוחים בבוקר",
        "দোকানটি সকালে ৪৮টি আপেল বিক্রি করেছে",
        "கடை காலையில் 48 ஆப்பிள்களை விற்றது",
        "საქართველოს დედაქალაქი თბილისია",
        "Հայաստանի մայրաքաղաքը Երևանն է",
        "ហាងលក់ផ្លែប៉ោម ៤៨",
        "Une boulangerie vend 48 croissants le matin. Combien en vend-elle au total?",
        "Eine Bäckerei verkauft morgens 48 Brötchen. Wie viele verkauft sie insgesamt?",
        "Una panadería vende 48 panes por la mañana. ¿Cuántos vende en total?",
        "Một cửa hàng bán 48 cái bánh buổi sáng. Hỏi cửa hàng bán tất cả bao nhiêu?",
        "Uma padaria vende 48 pães pela manhã. Quantos vende no total?",
        "Een bakkerij verkoopt 48 broodjes in de ochtend. Hoeveel verkoopt zij in totaal?",
        "Bir fırın sabah 48 ekmek satıyor. Toplam kaç ekmek satıyor?",
        "Sebuah toko menjual 48 kue di pagi hari. Berapa kue yang terjual semuanya?",
        "Ett bageri säljer 48 bullar på morgonen. Hur många säljer det totalt?",
        "Piekarnia sprzedaje rano 48 bułek. Ile bułek sprzedaje razem?",
        "Quelle est la capitale de la France?",
        "Was ist die Hauptstadt von Frankreich?",
        "Bonjour, comment allez-vous?",
        "とうきょう",
        "計算せよ。",
        "中国の首都は北京です。",
        "ㅋㅋㅋ 안녕",
        "Ça va bien, merci beaucoup.",
    ],
}


@pytest.mark.parametrize(("language", "text"), [(name, text) for name, texts in TEXTS.items() for text in texts])
def test_languages(language: str, text: str) -> None:
    assert detect_language(text) == language


def test_every_language_is_tried() -> None:
    assert set(TEXTS) == set(LANGUAGES)


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("中文字", 1.0),
        ("English words here", 0.0),
        ("Русский текст", 0.0),
        ("한국어 문장입니다", 0.0),
        ("これは日本語の文です", 0.0),
        ("数据 data", 2 / 3),
        ("3+4=7", 1.0),
        ("", 1.0),
        (r"\frac{1}{2}", 1.0),
        ("中文。これは日本語です。", 2 / 10),
    ],
)
def test_the_fraction_of_chinese(text: str, ratio: float) -> None:
    assert cjk_ratio(text) == pytest.approx(ratio)


def test_chinese_characters_of_a_japanese_sentence_are_not_chinese() -> None:
    words = count_words("東京都の人口は多い。北京很大。")
    assert (words.chinese, words.latin, words.other) == (4, 0, 9)


def test_the_first_text_with_words_decides() -> None:
    assert detect_language("3+4=7", "What is 3+4?") == "en"
    assert detect_language("3+4=7", "三加四等于几?") == "zh"
    assert detect_language("x=5", "2x=10") == "zh"
    assert not has_words("2x=10, AB=3 cm") and has_words("二")


@pytest.mark.parametrize(
    ("context", "steps", "language"),
    [
        ("What is 3+4?", ["3+4=7", "7", "7=7"], "en"),
        ("三加四等于几?", ["3+4=7"], "zh"),
        ("三加四等于几?", ["Сначала складываем числа.", "Получаем семь."], "other"),
        ("三加四等于几?", ["まず足し算をします。", "答えは七です。"], "other"),
        ("三加四等于几?", ["먼저 더합니다.", "답은 7입니다."], "other"),
    ],
)
def test_the_language_of_a_record_is_that_of_its_chain(context: str, steps: list[str], language: str) -> None:
    assert make_record(context, steps, "7")["language"] == language


@pytest.mark.parametrize(
    ("text", "foreign"),
    [
        ("The total is 108 and so each of the four boxes holds 27 pencils.", True),
        ("Итак, каждая коробка содержит двадцать семь карандашей, и это ответ.", True),
        ("La réponse est donc vingt-sept crayons dans chaque boîte, merci beaucoup.", True),
        ("総額は百八なので、それぞれの箱には二十七本の鉛筆が入っています。", True),
        ("每箱27支。", False),
        ("Fyodor Mikhailovich Dostoevsky", False),
        ("def solve(numbers):\n    total = sum(numbers)\n    return total // len(numbers), max(numbers)", False),
        ("```python\nprint('the answer is that which we find in each of the boxes')\n```", False),
    ],
)
def test_foreign_prose(text: str, foreign: bool) -> None:
    assert is_foreign_prose(text, 0.4) is foreign


def test_wide_letters_are_letters():
    wide = "Ｆｉｒｓｔ　ｗｅ　ａｄｄ　ｔｈｒｅｅ　ａｎｄ　ｆｏｕｒ，　ｗｈｉｃｈ　ｉｓ　ｓｅｖｅｎ．"
    assert detect_language(wide) == "en"
    assert (
        detect_language("Ｐｒｉｍｅｒｏ　ｓｕｍａｍｏｓ　ｔｒｅｓ　ｙ　ｃｕａｔｒｏ，　ｑｕｅ　ｓｏｎ　ｓｉｅｔｅ．")
        == "other"
    )
