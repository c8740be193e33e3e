// What a page sends: with the session's secret, and what comes back as JSON.
const { csrf } = document.getElementById("main").dataset;

/** Send something; return { ok, status, value }. A body that is no Blob is sent as JSON. */
export async function post(address, body = {}) {
  const raw = body instanceof Blob;
  const headers = { "X-CSRF-Token": csrf, Accept: "application/json", "Content-Type": raw ? "application/octet-stream" : "application/json" };
  try {
    const answer = await fetch(address, { method: "POST", headers, body: raw ? body : JSON.stringify(body) });
    if (answer.status === 401) location.reload();
    const json = answer.headers.get("content-type")?.startsWith("application/json");
    return { ok: answer.ok, status: answer.status, value: json ? await answer.json() : {} };
  } catch {
    return { ok: false, status: 0, value: {} };
  }
}
