// One answer: its steps as they come, the marks on their equations, the answer, and what users say about it.
// Everything that users and models wrote is set as text.

import { chat, feedback, ServerError } from "./api.js";
import { say, translate, word } from "./words.js";

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

export function trouble(place, error) {
  const known = { offline: "offline", broken: "broken" }[error.code];
  place.hidden = false;
  if (known) say(place, known);
  else {
    delete place.dataset.text; // a message of the server has one language
    place.textContent = error.message;
  }
}

// An equation with its verdict: a sign to see, and words to hear.
function mark(found) {
  const made = element("span", found.holds ? "equation holds" : "equation fails");
  made.append(element("span", "formula", found.text));
  const sign = element("span", "sign", found.holds ? "✓" : "✗");
  sign.setAttribute("aria-hidden", "true");
  const spoken = element("span", "unseen");
  say(spoken, found.holds ? "right" : "wrong");
  made.append(sign, spoken);
  if (!found.holds && found.value !== null) {
    const value = element("span", "value");
    say(value, "should_be", found.value);
    made.append(value);
  }
  return made;
}

// A text with its equations marked in their places; those without a place follow it.
function marked(check) {
  const made = document.createDocumentFragment();
  const characters = Array.from(check.text); // the server counts characters, not UTF-16 units
  let done = 0;
  for (const found of check.equations) {
    if (!found.end) continue;
    made.append(characters.slice(done, found.start).join(""), mark(found));
    done = found.end;
  }
  made.append(characters.slice(done).join(""));
  for (const found of check.equations) if (!found.end) made.append(" ", mark(found));
  return made;
}

export class Answer {
  constructor(place, model, title) {
    const copy = document.querySelector("#answer_template").content.cloneNode(true);
    translate(copy);
    this.root = copy.querySelector(".answer");
    place.append(copy);
    this.model = model;
    this.id = null;
    this.thought = "";
    this.content = "";
    this.checks = [];
    this.answer_check = null;
    this.checked = 0;
    this.usage = null;
    this.closed_by = null;
    this.whole = false;
    const who = this.find(".who");
    if (title) {
      const its = element("span");
      say(its, "answer_of", title);
      who.append(its);
    } else who.textContent = model;
    this.wire();
  }

  find(selector) {
    return this.root.querySelector(selector);
  }

  reveal() {
    this.find(".who").append(element("span", "model", this.model));
  }

  async run(question, budget, compared, signal) {
    const begun = performance.now();
    this.root.setAttribute("aria-busy", "true");
    try {
      for await (const chunk of chat(question, this.model, budget, compared, signal)) this.read(chunk);
      this.whole = true;
      this.finish((performance.now() - begun) / 1000);
    } catch (error) {
      if (error.name === "AbortError") {
        this.find(".trouble").hidden = false;
        say(this.find(".trouble"), "stopped");
      } else if (error instanceof ServerError) {
        trouble(this.find(".trouble"), error);
        if (error.code === "invalid_api_key") throw error;
      } else throw error;
    } finally {
      this.find(".waiting").hidden = true;
      this.root.removeAttribute("aria-busy");
    }
  }

  read(chunk) {
    this.id = chunk.id;
    this.model = chunk.model; // an experiment may have chosen another version
    this.usage = chunk.usage ?? this.usage;
    for (const choice of chunk.choices) {
      this.closed_by = choice.thought_closed_by ?? this.closed_by;
      const delta = choice.delta;
      if (delta.reasoning) {
        this.thought += delta.reasoning;
        this.show_draft();
      }
      if (delta.checks) this.show_steps(delta.checks, delta.checked);
      if (delta.content) {
        this.content += delta.content;
        this.find(".content").hidden = false;
        this.find(".content").textContent = this.content;
        this.find(".waiting").hidden = true;
      }
      if (delta.answer_check) this.show_answer(delta.answer_check);
    }
  }

  // What has been written since the last step that was checked.
  show_draft() {
    const rest = Array.from(this.thought).slice(this.checked).join("").trim();
    const draft = this.find(".draft");
    draft.textContent = rest.replace(/^步[骤驟]?\d*[:：]?\s*/, "");
    draft.hidden = !draft.textContent;
    this.find(".waiting").hidden = true;
    this.find(".thought").hidden = false;
    this.show_summary();
  }

  show_steps(checks, checked) {
    const list = this.find(".steps");
    for (const check of checks) {
      while (list.children.length > check.index) list.lastElementChild.remove();
      this.checks.length = check.index;
      this.checks.push(check);
      const item = element("li");
      item.append(marked(check));
      if (check.verdict === "foreign" || check.verdict === "tainted") {
        const note = element("small", "note");
        say(note, check.verdict);
        item.append(note);
      }
      list.append(item);
    }
    this.checked = checked;
    this.show_draft();
  }

  show_summary() {
    say(this.find("summary"), "thought", this.checks.length);
  }

  show_answer(check) {
    this.answer_check = check;
    this.find(".content").replaceChildren(marked(check));
  }

  finish(seconds) {
    this.find(".thought").hidden = !this.checks.length;
    const figures = this.find(".figures");
    figures.hidden = false;
    const parts = [];
    const add = (name, ...values) => {
      const part = element("span");
      say(part, name, ...values);
      parts.push(part);
    };
    const found = [...this.checks, ...(this.answer_check ? [this.answer_check] : [])].flatMap((check) => check.equations);
    const wrong = found.filter((one) => !one.holds).length;
    if (wrong) add("some_fail", found.length, wrong);
    else if (found.length === 1) add("one_holds");
    else if (found.length) add("all_hold", found.length);
    const thought = this.usage?.completion_tokens_details.reasoning_tokens ?? 0;
    add("figures", thought, (this.usage?.completion_tokens ?? 0) - thought, seconds.toFixed(1));
    if (this.closed_by === "budget") add("by_budget");
    figures.replaceChildren(...parts);
    this.find(".feedback").hidden = !Answer.takes_feedback;
  }

  wire() {
    for (const thumbs of ["up", "down"]) {
      this.find(`.${thumbs}`).addEventListener("click", async () => {
        if (!(await this.send({ thumbs }))) return;
        for (const other of ["up", "down"]) {
          this.find(`.${other}`).setAttribute("aria-pressed", String(other === thumbs));
        }
      });
    }
    const form = this.find(".correction");
    const open = this.find(".correct");
    const show = (shown) => {
      form.hidden = !shown;
      open.setAttribute("aria-expanded", String(shown));
      if (shown) {
        this.find(".its_steps").value = this.lines().join("\n");
        this.find(".its_answer").value = this.content;
        this.find(".its_steps").focus();
      } else open.focus();
    };
    open.addEventListener("click", () => show(form.hidden));
    this.find(".cancel").addEventListener("click", () => show(false));
    form.addEventListener("keydown", (event) => {
      if (event.key === "Escape") show(false);
    });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const said = this.correction();
      if (!Object.keys(said).length) say(this.find(".said"), "nothing");
      else if (await this.send(said)) show(false);
    });
  }

  lines() {
    return this.checks.map((check) => check.text.replace(/\s*\n\s*/g, " "));
  }

  // What the form changes.
  correction() {
    const said = {};
    const steps = this.find(".its_steps").value.split("\n").map((line) => line.trim()).filter(Boolean);
    const answer = this.find(".its_answer").value.trim();
    const comment = this.find(".its_comment").value.trim();
    if (steps.length && steps.join("\n") !== this.lines().map((line) => line.trim()).join("\n")) said.corrected_steps = steps;
    if (answer && answer !== this.content.trim()) said.corrected_answer = answer;
    if (comment) said.comment = comment;
    return said;
  }

  async send(said) {
    const place = this.find(".said");
    try {
      const stored = await feedback({ id: this.id, ...said });
      const wrong = (stored.checks ?? []).flatMap((check) => check.equations).filter((found) => !found.holds);
      if (wrong.length) say(place, "stored_wrong", wrong.map((found) => found.text).join(", "));
      else say(place, "stored");
      return true;
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      trouble(place, error);
      return false;
    }
  }
}

Answer.takes_feedback = true;
