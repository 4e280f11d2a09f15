// The page's texts in both languages, and which of them is shown.

const WORDS = {
  en: {
    tagline: "Ask, watch the steps, check them",
    other_language: "中文",
    key: "API key",
    key_note: "Kept for this tab only.",
    question: "Question",
    question_note: "Enter asks, Shift+Enter begins a new line.",
    model: "Model",
    model_a: "Model A",
    other_model: "Model B",
    budget: "Thinking budget",
    tokens: (count) => `${count} tokens`,
    no_thought: "off",
    compare: "Compare two models",
    compare_note: "The server has one model only.",
    ask: "Ask",
    stop: "Stop",
    examples: "For example",
    answers: "Answers",
    waiting: "Thinking …",
    thought: (count) => `Steps (${count})`,
    right: "holds",
    wrong: "does not hold",
    should_be: (value) => `should be ${value}`,
    foreign: "A number here comes from nowhere.",
    tainted: "Goes on from a wrong or unfounded number.",
    figures: (thought, answer, seconds) => `${thought} tokens of thought, ${answer} of answer, ${seconds} s`,
    all_hold: (count) => `${count} equations, all hold`,
    one_holds: "1 equation, it holds",
    some_fail: (count, wrong) => `${wrong} of ${count} equations ${wrong === 1 ? "does" : "do"} not hold`,
    by_budget: "thought closed by the budget",
    stopped: "Stopped.",
    feedback: "Feedback",
    up: "Good",
    down: "Bad",
    correct: "Correct it",
    correct_steps: "Steps, one a line",
    correct_answer: "Answer",
    comment: "Comment",
    save: "Save",
    cancel: "Cancel",
    stored: "Stored.",
    stored_wrong: (list) => `Stored. It will not be learned from, because this does not hold: ${list}`,
    nothing: "Nothing has been changed.",
    answer_of: (number) => `Answer ${number}`,
    vote: "Which answer is better? The models are shown after the vote.",
    vote_for: (number) => `Answer ${number} is better`,
    vote_equal: "Neither, show the models",
    voted: (number) => `Stored: answer ${number} is better.`,
    begun: "The question has been sent.",
    done: "The answer is complete.",
    offline: "The server cannot be reached.",
    broken: "The answer broke off.",
    give_key: "This server needs an API key.",
    same_models: "Choose two different models.",
    samples: [
      "小明有12个苹果,又买来25个,卖出8个。现在有多少个苹果?",
      "A shop sells 3 boxes of pens with 12 pens each. How many pens are that?",
      "一本书有240页,小红每天看30页,看了5天。还剩多少页?",
    ],
  },
  zh: {
    tagline: "提问，看推理步骤，核对算式",
    other_language: "English",
    key: "API 密钥",
    key_note: "只在本标签页中保留。",
    question: "问题",
    question_note: "回车提问，Shift+回车换行。",
    model: "模型",
    model_a: "模型 A",
    other_model: "模型 B",
    budget: "思考预算",
    tokens: (count) => `${count} 个词元`,
    no_thought: "关闭",
    compare: "对比两个模型",
    compare_note: "服务器上只有一个模型。",
    ask: "提问",
    stop: "停止",
    examples: "例如",
    answers: "回答",
    waiting: "思考中……",
    thought: (count) => `推理步骤（${count}）`,
    right: "成立",
    wrong: "不成立",
    should_be: (value) => `应为 ${value}`,
    foreign: "这里有一个来历不明的数。",
    tainted: "沿用了错误或没有依据的数。",
    figures: (thought, answer, seconds) => `思考 ${thought} 个词元，回答 ${answer} 个词元，${seconds} 秒`,
    all_hold: (count) => `${count} 个算式全部成立`,
    one_holds: "1 个算式，成立",
    some_fail: (count, wrong) => `${count} 个算式中有 ${wrong} 个不成立`,
    by_budget: "思考因预算用完而结束",
    stopped: "已停止。",
    feedback: "反馈",
    up: "好",
    down: "不好",
    correct: "纠正",
    correct_steps: "步骤，每行一步",
    correct_answer: "答案",
    comment: "备注",
    save: "保存",
    cancel: "取消",
    stored: "已保存。",
    stored_wrong: (list) => `已保存，但不会用于学习，因为下列算式不成立：${list}`,
    nothing: "没有任何改动。",
    answer_of: (number) => `回答${number === 1 ? "一" : "二"}`,
    vote: "哪个回答更好？投票后显示模型名称。",
    vote_for: (number) => `回答${number === 1 ? "一" : "二"}更好`,
    vote_equal: "不相上下，显示模型",
    voted: (number) => `已保存：回答${number === 1 ? "一" : "二"}更好。`,
    begun: "问题已发送。",
    done: "回答完成。",
    offline: "无法连接服务器。",
    broken: "回答中断了。",
    give_key: "此服务器需要 API 密钥。",
    same_models: "请选择两个不同的模型。",
    samples: [
      "小明有12个苹果,又买来25个,卖出8个。现在有多少个苹果?",
      "一本书有240页,小红每天看30页,看了5天。还剩多少页?",
      "商店有3盒笔,每盒12支,又运来20支。一共有多少支笔?",
    ],
  },
};

const PLACE = "hf_reason_language";

function preferred() {
  const stored = localStorage.getItem(PLACE);
  if (stored in WORDS) return stored;
  const known = navigator.languages.map((name) => name.toLowerCase().split("-")[0]).find((name) => name in WORDS);
  return known ?? "en";
}

let language = preferred();

export function word(name, ...values) {
  const found = WORDS[language][name];
  return typeof found === "function" ? found(...values) : found;
}

// A text of an element that follows the language: set now, and again when the language changes.
export function say(element, name, ...values) {
  element.dataset.text = name;
  element.dataset.values = JSON.stringify(values);
  element.textContent = word(name, ...values);
}

export function translate(root) {
  for (const element of root.querySelectorAll("[data-text]")) {
    element.textContent = word(element.dataset.text, ...JSON.parse(element.dataset.values ?? "[]"));
  }
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", word(element.dataset.label));
  }
}

export function show_language() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  translate(document);
  for (const template of document.querySelectorAll("template")) translate(template.content);
  const button = document.querySelector("#language");
  button.textContent = word("other_language");
  button.lang = language === "zh" ? "en" : "zh-CN";
}

export function switch_language() {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem(PLACE, language);
  show_language();
}
