// Work as jobs: they outlast this page. The one under way is kept with the tab, where a reload finds it again.

import { Failure, Unreachable, call, pause } from "./server.js";

const KEPT = "retouch.job";
export const kept = () => JSON.parse(sessionStorage.getItem(KEPT));

/** Sends a form and gives the job; `about` comes back with it after a reload. */
export const start = async (task, form, about, signal) => {
  const job = await (await call(`jobs/${task}`, { method: "POST", body: form, signal })).json();
  sessionStorage.setItem(KEPT, JSON.stringify({ id: job.id, about }));
  return job.id;
};

/** The job's picture, once it is done; `tell` hears of each change. An abort ends the job itself. */
export const finish = async (id, signal, tell) => {
  const end = () => {
    forget();
    call(`jobs/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
  };
  signal.addEventListener("abort", end, { once: true });
  try {
    const job = await over(id, signal, tell);
    const answer = await (await call(`jobs/${id}/result`, { signal })).blob();
    end();
    return { answer, model: job.model, seconds: job.finished - job.created };
  } catch (error) {
    if (error instanceof Failure) forget();
    throw error;
  } finally {
    signal.removeEventListener("abort", end);
  }
};

const forget = () => sessionStorage.removeItem(KEPT);

const over = async (id, signal, tell) => {
  for (;;) {
    try {
      const response = await call(`jobs/${id}/events`, { signal });
      for await (const [event, job] of events(response.body)) {
        if (event === "done") return job;
        if (event === "failed") throw new Failure(job.problem.detail, job.problem.status);
        if (event === "deleted") throw new Failure("The job was deleted.", 404);
        if (event !== "stopping") tell(job);
      }
    } catch (error) {
      if (error instanceof Failure || signal.aborted) throw error;
      if (error instanceof Unreachable) tell(null);
    }
    await pause(1, signal);
  }
};

const events = async function* (body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const [, event, data] = /^event: (.*)\ndata: (.*)$/.exec(part) ?? [];
      if (event) yield [event, JSON.parse(data)];
    }
  }
};

/** Tells how a job stands: "12 of 40 windows, about 3 min left", by the pace since it was first seen. */
export const teller = () => {
  let first = null;
  return (job) => {
    if (!job) return "The server cannot be reached; trying again …";
    if (job.state === "queued") {
      return job.position ? `Waiting; ${job.position} before this one.` : "Waiting …";
    }
    if (!job.windows_total) return "Working …";
    const { windows_done: done, windows_total: total } = job;
    first ??= { done, at: performance.now() };
    const spent = (performance.now() - first.at) / 1000;
    const left = done > first.done ? `, about ${duration((spent * (total - done)) / (done - first.done))} left` : "";
    return `${done} of ${total} windows${left}`;
  };
};

const duration = (seconds) =>
  seconds < 90 ? `${Math.max(1, Math.ceil(seconds))} s` : `${Math.round(seconds / 60)} min`;
