/** Logging in. The inference key lives in this module's memory and nowhere else. */
import { signal } from "./dom.js";
import { ApiError, call } from "./api.js";

/** `checking`, `out` or `in`. */
export const standing = signal("checking");

export const session = signal(/** @type {import("./types.js").Session | null} */ (null));

/** Why the last attempt to log in failed, in words; empty if none did. */
export const loginProblem = signal("");

/** Ask again for the address, a fresh key and the models. */
export async function refresh() {
  try {
    session.value = await call("/api/session");
    standing.value = "in";
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) {
      session.value = null;
      standing.value = "out";
      return;
    }
    throw error;
  }
}

/** @param {string} key */
export async function logIn(key) {
  loginProblem.value = "";
  try {
    await call("/api/session", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ key: key.trim() }),
    });
    await refresh();
  } catch (error) {
    standing.value = "out";
    loginProblem.value = error instanceof Error ? error.message : String(error);
  }
}

export async function logOut() {
  await call("/api/session", { method: "DELETE" }).catch(() => null);
  session.value = null;
  standing.value = "out";
}

/**
 * Start with the key in the address's fragment, if `underlay up` put one there, else with the cookie.
 * The fragment is removed first: it must not stay in the history or be copied along with the address.
 */
export async function begin() {
  const key = new URLSearchParams(location.hash.slice(1)).get("key");
  if (key !== null) {
    history.replaceState(history.state, "", location.pathname + location.search);
    await logIn(key);
    return;
  }
  await refresh().catch((error) => {
    standing.value = "out";
    loginProblem.value = error.message;
  });
}

/** Call the console's JSON; a session that ended shows the login and keeps the page where it was.
 * @param {string} path @param {Parameters<typeof call>[1]} [options] */
export async function read(path, options) {
  try {
    return await call(path, options);
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) standing.value = "out";
    throw error;
  }
}
