// Requests to this server, below whatever path the page itself is served; failures in words.

export class Failure extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export class Unreachable extends Error {
  constructor() {
    super("The server cannot be reached.");
  }
}

const KEY = "retouch.key";
export const key = {
  get: () => localStorage.getItem(KEY) ?? "",
  set: (value) => (value ? localStorage.setItem(KEY, value) : localStorage.removeItem(KEY)),
};

export const call = async (path, options = {}) => {
  const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    throw error instanceof TypeError ? new Unreachable() : error;
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new Failure(problem.detail ?? `The server answered ${response.status}.`, response.status);
};

export const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

/** The answer as soon as there is one; until then every failure is told. */
export const patiently = async (path, tell) => {
  for (let wait = 1; ; wait = Math.min(30, wait * 2)) {
    try {
      return await (await call(path)).json();
    } catch (error) {
      tell(error, wait);
      await pause(wait);
    }
  }
};
