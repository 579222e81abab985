/** The console's own JSON, and what can go wrong on the way to it. */

/** An answer that is not a success, or no answer at all (`status` 0). */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, code?: string, requestId?: string, retryAfterS?: number | null,
   *   param?: string | null}} [details]
   */
  constructor(message, { status = 0, code = "", requestId = "", retryAfterS = null, param = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
    this.retryAfterS = retryAfterS;
    this.param = param;
  }

  /** Everything worth pasting into a report. */
  get diagnostics() {
    return JSON.stringify({
      message: this.message, status: this.status, code: this.code, param: this.param,
      request_id: this.requestId, at: new Date().toISOString(),
    }, null, 2);
  }
}

/**
 * Turn an unsuccessful response, ours or the generation APIs', into an error.
 * @param {Response} response
 */
export async function errorOf(response) {
  const body = await response.json().catch(() => null);
  const error = body?.error ?? {};
  const wait = response.headers.get("retry-after-ms");
  const seconds = wait ? Number(wait) / 1000 : Number(response.headers.get("retry-after") ?? Number.NaN);
  return new ApiError(error.message ?? `The server answered ${response.status}.`, {
    status: response.status,
    code: error.code ?? error.type ?? "",
    param: error.param ?? null,
    requestId: response.headers.get("x-request-id") ?? error.request_id ?? "",
    retryAfterS: Number.isFinite(seconds) ? seconds : null,
  });
}

/**
 * @param {string} path
 * @param {RequestInit & {accept?: number[]}} [options] `accept` lists further statuses that carry a result
 */
export async function call(path, { accept = [], ...options } = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("The console does not answer. Is the platform still running?");
  }
  if (!response.ok && !accept.includes(response.status)) throw await errorOf(response);
  return response.status === 204 ? null : response.json();
}
