// The form, the list of answers, and votes.

import { Answer, trouble } from "./answer.js";
import { feedback, key, models, ServerError, settings } from "./api.js";
import { say, show_language, switch_language, translate, word } from "./words.js";

const $ = (selector) => document.querySelector(selector);
let running = null;

function show_budget() {
  const tokens = Number($("#budget").value);
  $("#budget_shown").textContent = tokens ? word("tokens", tokens) : word("no_thought");
  $("#budget").setAttribute("aria-valuetext", $("#budget_shown").textContent);
}

function show_samples() {
  const list = $("#examples ul");
  list.replaceChildren();
  for (const text of word("samples")) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = text;
    button.addEventListener("click", () => {
      $("#question").value = text;
      $("#question").focus();
    });
    item.append(button);
    list.append(item);
  }
}

function show_texts() {
  show_language();
  show_samples();
  show_budget();
  show_compare();
  for (const exchange of document.querySelectorAll(".exchange")) name_votes(exchange);
}

function show_compare() {
  const shown = $("#compare").checked;
  $("#other_field").hidden = !shown;
  say($("#model_label"), shown ? "model_a" : "model");
  const single = $("#model").options.length === 1;
  $("#compare").disabled = single;
  $("#compare_note").textContent = single ? word("compare_note") : "";
  $(".check").title = single ? word("compare_note") : "";
}

function fill(select, names, chosen) {
  const before = select.value;
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  select.value = names.includes(before) ? before : chosen;
}

async function load_models() {
  try {
    const names = await models();
    fill($("#model"), names, names[0]);
    fill($("#other"), names, names[1] ?? names[0]);
    $("#trouble").hidden = true;
  } catch (error) {
    refuse(error);
  }
  show_compare();
}

function refuse(error) {
  if (!(error instanceof ServerError)) throw error;
  trouble($("#trouble"), error);
  if (error.code === "invalid_api_key") {
    $("#key_row").hidden = false;
    if (!key.get()) say($("#trouble"), "give_key");
    $("#key").focus();
  }
}

async function begin() {
  show_texts();
  try {
    const limits = await settings();
    Answer.takes_feedback = limits.feedback;
    const budget = $("#budget");
    budget.max = limits.max_thought_tokens;
    budget.step = Math.max(1, Math.round(limits.max_thought_tokens / 32));
    budget.value = limits.max_thought_tokens;
    show_budget();
    $("#key_row").hidden = !limits.needs_key;
    if (limits.needs_key && !key.get()) {
      $("#key").focus();
      return;
    }
    $("#key").value = key.get();
    await load_models();
    $("#question").focus();
  } catch (error) {
    refuse(error);
  }
}

function name_votes(exchange) {
  for (const [name, number] of [["first", 1], ["second", 2]]) {
    exchange.querySelector(`.${name}`).textContent = word("vote_for", number);
  }
}

function wire_vote(exchange, answers) {
  const place = exchange.querySelector(".vote");
  const voted = exchange.querySelector(".voted");
  const buttons = [...place.querySelectorAll("button")];
  const end = (chosen) => {
    for (const button of buttons) {
      button.disabled = true;
      button.setAttribute("aria-pressed", String(button === chosen));
    }
    for (const answer of answers) answer.reveal();
  };
  const vote = async (number, button) => {
    const [better, worse] = number === 1 ? answers : [...answers].reverse();
    try {
      await feedback({ id: better.id, preferred_to: worse.id });
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      trouble(voted, error);
      return;
    }
    say(voted, "voted", number);
    end(button);
  };
  place.querySelector(".first").addEventListener("click", (event) => vote(1, event.currentTarget));
  place.querySelector(".second").addEventListener("click", (event) => vote(2, event.currentTarget));
  place.querySelector(".equal").addEventListener("click", (event) => end(event.currentTarget));
  say(place.querySelector("p"), "vote");
  return () => {
    place.hidden = !Answer.takes_feedback;
    if (!Answer.takes_feedback) for (const answer of answers) answer.reveal();
  };
}

async function ask() {
  const question = $("#question").value.trim();
  const compared = $("#compare").checked;
  if (!question || running) return;
  const names = [$("#model").value];
  if (compared) {
    names.push($("#other").value);
    if (names[0] === names[1]) {
      $("#trouble").hidden = false;
      say($("#trouble"), "same_models");
      return;
    }
    // a vote says something only if the side says nothing
    if (crypto.getRandomValues(new Uint8Array(1))[0] % 2) names.reverse();
  }
  $("#trouble").hidden = true;
  $("#examples").hidden = true;
  const copy = $("#exchange_template").content.cloneNode(true);
  translate(copy);
  const exchange = copy.querySelector(".exchange");
  exchange.querySelector(".asked").textContent = question;
  const sides = exchange.querySelector(".sides");
  sides.classList.toggle("pair", compared);
  $("#answers").prepend(copy);
  name_votes(exchange);
  const answers = names.map((name, index) => new Answer(sides, name, compared ? index + 1 : 0));
  const offer_vote = compared ? wire_vote(exchange, answers) : null;
  // on a phone the form fills the screen
  if (matchMedia("(max-width: 40rem)").matches) exchange.scrollIntoView();
  running = new AbortController();
  $("#send").hidden = true;
  $("#stop").hidden = false;
  say($("#status"), "begun");
  const budget = Number($("#budget").value);
  try {
    await Promise.all(answers.map((answer) => answer.run(question, budget, compared, running.signal)));
    if (!compared) answers[0].find(".who").textContent = answers[0].model;
    if (offer_vote && answers.every((answer) => answer.whole)) offer_vote();
    say($("#status"), "done");
  } catch (error) {
    refuse(error);
  } finally {
    running = null;
    const focused = document.activeElement === $("#stop");
    $("#send").hidden = false;
    $("#stop").hidden = true;
    if (focused) $("#question").focus();
  }
}

$("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("#question").addEventListener("keydown", (event) => {
  // an Enter that ends the input of a Chinese word asks nothing
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  $("#ask").requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running) running.abort();
});
$("#stop").addEventListener("click", () => running?.abort());
$("#budget").addEventListener("input", show_budget);
$("#compare").addEventListener("change", show_compare);
$("#key").addEventListener("change", () => {
  key.set($("#key").value);
  load_models();
});
$("#language").addEventListener("click", () => {
  switch_language();
  show_texts();
});

begin();
