// Pages without a stream: their middle is fetched anew now and then, and swapped where it changed.
import { tell } from "./live.js";

const main = document.getElementById("main");
let known = main.innerHTML;

async function refresh() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected) location.reload();
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    if (fresh.innerHTML !== known && !main.contains(document.activeElement?.closest("form"))) {
      known = fresh.innerHTML;
      const held = main.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      main.replaceChildren(...fresh.childNodes);
      if (held) main.querySelector(`a[href="${CSS.escape(held)}"]`)?.focus();
    }
    document.getElementById("link").hidden = true;
  } catch {
    tell("link.away", "bad");
  }
}

setInterval(() => document.hidden || refresh(), Number(main.dataset.refresh) * 1000);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
