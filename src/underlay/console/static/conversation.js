/** What was said in this tab. It lives in memory only: closing the tab forgets it. */
import { batch, computed, signal } from "./dom.js";
import { ApiError } from "./api.js";
import { announce } from "./kit.js";
import { plural, ms as inMs } from "./format.js";
import { read, refresh, session, standing } from "./session.js";
import { ask } from "./stream.js";

/**
 * @typedef {ReturnType<typeof newTurn>} Turn one question with its answer
 */

export const turns = signal(/** @type {Turn[]} */ ([]));
export const model = signal("");
export const maxTokens = signal(400);
export const temperature = signal(0.7);
export const draft = signal("");

/** The turn that is being answered, if any. */
export const current = computed(() => turns.value.find((turn) => ["waiting", "streaming"].includes(turn.state.value)) ?? null);

let lastTurn = 0;

/** @param {string} question */
function newTurn(question) {
  return {
    id: ++lastTurn,
    question,
    model: model.value,
    answer: signal(""),
    /** waiting → streaming → done | stopped | failed */
    state: signal("waiting"),
    error: signal(null),
    requestId: signal(""),
    finish: signal(""),
    /** Seen from this browser; the journey has the platform's own figures. */
    startedMs: performance.now(),
    firstMs: signal(/** @type {number | null} */ (null)),
    lastMs: signal(/** @type {number | null} */ (null)),
    usage: signal(null),
    costUsd: signal(""),
    journey: signal(null),
    abort: new AbortController(),
  };
}

/** The model asked for next: the chosen one while it exists, else the first that chats. */
export const asked = computed(() => {
  const cards = (session.value?.models ?? []).filter((card) => card.operations.includes("chat"));
  return cards.find((card) => card.id === model.value)?.id ?? cards[0]?.id ?? "";
});

/** @param {Turn} turn what the API is sent for it: everything said before it, and its question */
export function requestOf(turn) {
  const before = turns.value.slice(0, turns.value.indexOf(turn));
  const messages = before.filter((earlier) => earlier.answer.value).flatMap((earlier) => [
    { role: "user", content: earlier.question },
    { role: "assistant", content: earlier.answer.value },
  ]);
  return {
    model: turn.model,
    messages: [...messages, { role: "user", content: turn.question }],
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: maxTokens.value,
    temperature: temperature.value,
  };
}

/** The same request for a terminal; the key stays out of it. @param {Turn} turn */
export function curlOf(turn) {
  const body = JSON.stringify(requestOf(turn)).replaceAll("'", String.raw`'\''`);
  return [
    `curl -N ${session.value?.public_url ?? ""}/v1/chat/completions`,
    `  -H "Authorization: Bearer $UNDERLAY_KEY"`,
    `  -H 'Content-Type: application/json'`,
    `  -d '${body}'`,
  ].join(" \\\n");
}

/** @param {string} question */
export function send(question) {
  if (!question.trim() || current.value || !asked.value) return;
  model.value = asked.value;
  const turn = newTurn(question.trim());
  turns.value = [...turns.value, turn];
  answer(turn);
}

/** Ask the last question again, with the same words. */
export function regenerate() {
  const last = turns.value.at(-1);
  if (!last || current.value) return;
  turns.value = turns.value.slice(0, -1);
  send(last.question);
}

/** Take the last question back into the box; its answer goes. */
export function editLast() {
  const last = turns.value.at(-1);
  if (!last || current.value) return;
  turns.value = turns.value.slice(0, -1);
  draft.value = last.question;
}

export function stop() {
  current.value?.abort.abort();
}

export function startOver() {
  stop();
  turns.value = [];
}

/** @param {Turn} turn */
async function answer(turn) {
  try {
    await receive(turn);
    turn.state.value = "done";
    const took = inMs((turn.lastMs.value ?? performance.now()) - turn.startedMs);
    announce(`Answer finished: ${plural(turn.usage.value?.completion_tokens ?? 0, "token")} in ${took}.`);
  } catch (error) {
    if (turn.abort.signal.aborted) {
      turn.state.value = "stopped";
      announce("Stopped.");
    } else {
      turn.error.value = error instanceof ApiError ? error : new ApiError(String(error));
      turn.requestId.value ||= turn.error.value.requestId;
      turn.state.value = "failed";
    }
  }
  await findJourney(turn);
}

/** @param {Turn} turn */
async function open(turn) {
  try {
    return await ask(session.value, requestOf(turn), turn.abort.signal);
  } catch (error) {
    // The page's key is short-lived by design: fetch the next one and ask again, once.
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    await refresh();
    if (standing.value !== "in") throw error;
    return ask(session.value, requestOf(turn), turn.abort.signal);
  }
}

/** Read the stream, painting at most once per frame. @param {Turn} turn */
async function receive(turn) {
  const { requestId, chunks } = await open(turn);
  turn.requestId.value = requestId;
  let text = "";
  let frame = 0;
  const paint = () => {
    frame = 0;
    turn.answer.value = text;
  };
  try {
    for await (const chunk of chunks) {
      turn.requestId.value ||= chunk.id ?? "";
      const choice = chunk.choices?.[0];
      if (choice?.delta?.content) {
        text += choice.delta.content;
        noteTime(turn);
        frame ||= requestAnimationFrame(paint);
      }
      if (choice?.finish_reason) turn.finish.value = choice.finish_reason;
      if (chunk.usage) turn.usage.value = usageOf(chunk.usage);
      if (chunk.x_cost) turn.costUsd.value = chunk.x_cost.usd ?? "";
    }
  } finally {
    cancelAnimationFrame(frame);
    paint();
  }
}

/** @param {Turn} turn */
function noteTime(turn) {
  batch(() => {
    const at = performance.now();
    if (turn.firstMs.value === null) {
      turn.firstMs.value = at;
      turn.state.value = "streaming";
    }
    turn.lastMs.value = at;
  });
}

/** @param {any} usage as OpenAI's API spells it @returns {import("./types.js").Usage} */
function usageOf(usage) {
  return {
    prompt_tokens: usage.prompt_tokens ?? 0,
    cached_tokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
    completion_tokens: usage.completion_tokens ?? 0,
  };
}

/** The journey is written down just after the last byte, so ask a few times. @param {Turn} turn */
async function findJourney(turn) {
  const id = turn.requestId.value;
  for (let wait = 60; id && wait < 4000; wait *= 2) {
    const found = await read(`/api/journeys/${encodeURIComponent(id)}`).catch(() => null);
    if (found) turn.journey.value = found;
    if (found && found.outcome && found.outcome !== "running") return;
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}
