// A stream that comes back by itself: the server may be killed, updated, or away for a while.
import { t } from "./words.js";

const RETRY_MS = 2000;
const pill = document.getElementById("link");

/** Say how the page is connected. */
export function tell(key, kind) {
  pill.hidden = false;
  pill.textContent = t(key);
  pill.className = `pill ${kind}`;
}

/** Listen to a stream for ever; `heard` has a function for each kind of message. */
export function listen(address, heard) {
  const stream = new EventSource(address);
  for (const [kind, act] of Object.entries(heard)) {
    stream.addEventListener(kind, (message) => act(JSON.parse(message.data)));
  }
  stream.addEventListener("link", (message) => {
    const { broker, database } = JSON.parse(message.data);
    if (!database) tell("link.database", "bad");
    else if (!broker) tell("link.broker", "bad");
    else tell("link.live", "good");
  });
  stream.addEventListener("error", () => {
    tell("link.away", "bad");
    // An answer that is no stream (a proxy's 502, a log-in that is over) ends an EventSource for good.
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => again(address, heard), RETRY_MS);
  });
}

async function again(address, heard) {
  const wait = new AbortController();
  try {
    const answer = await fetch(address, { signal: wait.signal, headers: { Accept: "text/event-stream" } });
    wait.abort();
    if (answer.status === 401) location.reload();
    else listen(address, heard);
  } catch {
    setTimeout(() => again(address, heard), RETRY_MS);
  }
}
