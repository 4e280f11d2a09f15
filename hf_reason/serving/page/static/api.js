// The server: models, a chat as it streams, feedback. Addresses are relative, so that a proxy may add a path.

const KEY = "hf_reason_key";
const USER = "hf_reason_user";

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value.trim()),
};

// A random name, so that an experiment gives this browser the same version each time and counts it once.
function user() {
  let name = localStorage.getItem(USER);
  if (!name) {
    const bytes = crypto.getRandomValues(new Uint8Array(12));
    name = "page-" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    localStorage.setItem(USER, name);
  }
  return name;
}

export class ServerError extends Error {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

async function request(path, body, signal) {
  const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("", "offline");
  }
  if (!answer.ok) {
    const found = (await answer.json().catch(() => ({}))).error ?? {};
    throw new ServerError(found.message ?? `HTTP ${answer.status}`, found.code ?? "http_error");
  }
  return answer;
}

export async function settings() {
  return (await request("page/settings.json")).json();
}

export async function models() {
  return (await (await request("v1/models")).json()).data.map((model) => model.id);
}

export async function feedback(body) {
  return (await request("v1/feedback", { ...body, user: user() })).json();
}

// The chunks of a chat, as they come.
export async function* chat(question, model, budget, compared, signal) {
  const body = {
    model,
    messages: [{ role: "user", content: question }],
    thinking_budget: budget,
    stream: true,
    stream_options: { include_usage: true },
    check_steps: true,
    user: user(),
    // a comparison is of the models that it names, whatever an experiment would give this user
    experiment: !compared,
  };
  const answer = await request("v1/chat/completions", body, signal);
  let waiting = "";
  const text = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    let part;
    try {
      part = await text.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError("", "broken");
    }
    if (part.done) throw new ServerError("", "broken");
    const events = (waiting + part.value).split("\n\n");
    waiting = events.pop();
    for (const event of events) {
      if (!event.startsWith("data: ")) continue; // a sign of life
      const data = event.slice(6);
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ServerError(chunk.error.message, chunk.error.code);
      yield chunk;
    }
  }
}
