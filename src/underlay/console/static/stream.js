/** Asking the generation API: one POST, then server-sent events read from the reply as they come. */
import { ApiError, errorOf } from "./api.js";

/**
 * The data of each event of a stream.
 * @param {ReadableStream<Uint8Array>} body
 */
export async function* events(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + decoder.decode(value, { stream: true })).split(/\r?\n\r?\n/);
      rest = parts.pop() ?? "";
      for (const part of parts) {
        const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart());
        if (data.length) yield data.join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => null);
  }
}

/**
 * Ask for a streamed chat answer.
 * @param {import("./types.js").Session} session
 * @param {Record<string, unknown>} body
 * @param {AbortSignal} signal
 * @returns {Promise<{requestId: string, chunks: AsyncGenerator<any>}>}
 */
export async function ask(session, body, signal) {
  let response;
  try {
    response = await fetch(`${session.public_url}/v1/chat/completions`, {
      method: "POST",
      mode: "cors",
      credentials: "omit",
      headers: { "content-type": "application/json", authorization: `Bearer ${session.key}` },
      body: JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError(
      `No answer from ${session.public_url}. It may be starting or draining, or this browser cannot reach that address (a tunnel must forward that port too).`,
      { code: "unreachable" },
    );
  }
  if (!response.ok || !response.body) throw await errorOf(response);
  const requestId = response.headers.get("x-request-id") ?? "";
  return { requestId, chunks: chunks(response.body, requestId) };
}

/** @param {ReadableStream<Uint8Array>} body @param {string} requestId */
async function* chunks(body, requestId) {
  let ended = false;
  try {
    for await (const data of events(body)) {
      if (data.startsWith("[DONE]")) {
        ended = true;
        return;
      }
      const chunk = JSON.parse(data);
      if (chunk.error) {
        throw new ApiError(chunk.error.message ?? "The stream broke.", {
          status: 200, code: chunk.error.code ?? chunk.error.type ?? "", requestId,
        });
      }
      if (chunk.choices?.some((choice) => choice.finish_reason)) ended = true;
      yield chunk;
    }
  } catch (error) {
    if (error instanceof ApiError || (error instanceof DOMException && error.name === "AbortError")) throw error;
    throw new ApiError("The connection broke before the answer was complete.", { code: "stream_broken", requestId });
  }
  if (!ended) throw new ApiError("The stream ended before the answer was complete.", { code: "stream_broken", requestId });
}
