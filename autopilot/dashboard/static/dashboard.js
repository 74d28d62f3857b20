// Live updates, dialogs, copy buttons. The server renders the pages; they work without most of this.
"use strict";

const root = document.body.dataset.root;
const announcer = document.getElementById("announcer");

// Times ------------------------------------------------------------------------------------------------------------

const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

function relative(time) {
  const seconds = Math.round((Date.now() - time) / 1000);
  const distance = Math.abs(seconds);
  if (distance < 5) return seconds >= 0 ? "just now" : "now";
  const [unit, length] = UNITS.find(([, each]) => distance >= each);
  const distanceText = `${Math.floor(distance / length)} ${unit}`;
  return seconds > 0 ? `${distanceText} ago` : `in ${distanceText}`;
}

function refreshTimes() {
  for (const element of document.querySelectorAll("time")) {
    const text = relative(Date.parse(element.dateTime));
    if (element.textContent !== text) element.textContent = text;
  }
}

setInterval(() => { if (!document.hidden) refreshTimes(); }, 10000);

// Live updates: fetch the page again and replace the parts that differ -------------------------------------------------

const live = document.getElementById("live");
let refreshing = null;
let again = false;

function setLive(state, text) {
  live.dataset.state = state;
  live.querySelector(".live-text").textContent = text;
}

function replacePart(before, after) {
  const open = new Set([...before.querySelectorAll("details[open]")].map((each) => each.id));
  const closed = new Set([...before.querySelectorAll("details:not([open])")].map((each) => each.id));
  const focused = before.contains(document.activeElement) ? locate(before, document.activeElement) : null;
  const fresh = document.importNode(after, true);
  for (const each of fresh.querySelectorAll("details")) {
    if (open.has(each.id)) each.open = true;
    else if (closed.has(each.id)) each.open = false;
  }
  before.replaceWith(fresh);
  if (focused) focused(fresh)?.focus({preventScroll: true});
}

// Find the same element in a new version of its part: by id, address or dialog.
function locate(part, element) {
  const details = element.closest("details");
  if (element.tagName === "SUMMARY" && details?.id) return (fresh) => fresh.querySelector(`#${CSS.escape(details.id)} > summary`);
  for (const name of ["id", "href", "data-dialog", "data-copy"]) {
    const value = element.getAttribute(name);
    if (value) return (fresh) => fresh.querySelector(`[${name}="${CSS.escape(value)}"]`);
  }
  return () => null;
}

async function refresh() {
  if (document.querySelector("dialog[open]")) { again = true; return; }
  if (refreshing) { again = true; return; }
  // After a refused form the address is the form's, not that of the page it shows.
  refreshing = fetch(document.body.dataset.here ?? location.href.split("#")[0], {headers: {Accept: "text/html"}, credentials: "same-origin"});
  try {
    const answer = await refreshing;
    if (answer.redirected || answer.status === 401) { location.reload(); return; }
    if (answer.status === 404) { gone(); return; }
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const before of document.querySelectorAll("[data-live]")) {
      const after = page.querySelector(`[data-live="${before.dataset.live}"]`);
      if (after && after.innerHTML !== before.innerHTML) replacePart(before, after);
    }
    if (page.title !== document.title) document.title = page.title;
    const said = page.body.dataset.announce;
    if (said && said !== document.body.dataset.announce) {
      document.body.dataset.announce = announcer.textContent = said;
    }
    if (!("follow" in page.body.dataset)) delete document.body.dataset.follow;
    else document.body.dataset.follow = "";
    refreshTimes();
  } catch {
    setLive("wait", "reconnecting");
  } finally {
    refreshing = null;
    if (again) { again = false; setTimeout(refresh, 500); }
  }
}

function gone() {
  stop();
  setLive("off", "gone");
  announcer.textContent = "This run was deleted.";
  const notice = document.createElement("div");
  notice.className = "notice bad";
  notice.setAttribute("role", "alert");
  const text = document.createElement("p");
  text.textContent = "This run was deleted. This page shows its last state.";
  notice.append(text);
  document.querySelector(".page-head").after(notice);
  for (const button of document.querySelectorAll(".actions .button")) button.remove();
}

let source = null;
let debounce = null;
let follow = null;

function soon() {
  debounce ??= setTimeout(() => { debounce = null; refresh(); }, 150);
}

function start() {
  if (source || !("events" in document.body.dataset)) return;
  source = new EventSource(`${root}api/v1/events?${document.body.dataset.events}`);
  source.addEventListener("open", () => setLive("on", "live"));
  source.addEventListener("run", soon);
  source.addEventListener("error", () => {
    setLive("wait", "reconnecting");
    // The browser does not retry a stream that was refused.
    if (source?.readyState === EventSource.CLOSED) { stop(); setTimeout(() => { if (!document.hidden) { start(); refresh(); } }, 5000); }
  });
  // A step does not change the run, so no event announces it: poll while the run is running.
  follow = setInterval(() => { if ("follow" in document.body.dataset) refresh(); }, 2000);
}

function stop() {
  source?.close();
  source = null;
  clearInterval(follow);
}

if ("events" in document.body.dataset && !("quiet" in document.body.dataset)) {
  if (!document.hidden) start();
  // A hidden page holds no stream, so that it keeps no instance awake.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { stop(); setLive("off", ""); } else { start(); refresh(); }
  });
  addEventListener("pagehide", stop);
}

if ("retry" in document.body.dataset) {
  setInterval(async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.href, {credentials: "same-origin"});
      if (answer.status !== 503) location.reload();
    } catch { /* still away: the next try is soon enough */ }
  }, 5000);
}

// Dialogs, copying, forms ------------------------------------------------------------------------------------------

// A dialog that the server opened works without this, though not as a modal one.
for (const dialog of document.querySelectorAll("dialog[data-modal]")) { dialog.close(); dialog.showModal(); }

// Browsers since 2025 open and close dialogs by a button's command.
const hasCommands = "command" in HTMLButtonElement.prototype;

document.addEventListener("click", async (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener && !hasCommands) document.getElementById(opener.dataset.dialog).showModal();
  const closer = event.target.closest("[data-close]");
  if (closer && !hasCommands) closer.closest("dialog").close();
  if (event.target.tagName === "DIALOG") event.target.close();
  const copier = event.target.closest("[data-copy]");
  if (copier) {
    await navigator.clipboard.writeText(copier.dataset.copy);
    copier.classList.add("done");
    announcer.textContent = "Copied";
    setTimeout(() => copier.classList.remove("done"), 1200);
  }
});

document.addEventListener("submit", (event) => {
  const button = event.target.querySelector("button[data-busy]");
  if (!button) return;
  button.dataset.label = button.textContent;
  button.textContent = button.dataset.busy;
  // Not before the form's data is taken.
  setTimeout(() => { button.disabled = true; });
});

addEventListener("pageshow", (event) => {
  if (event.persisted) for (const button of document.querySelectorAll("button[data-label]")) {
    button.disabled = false;
    button.textContent = button.dataset.label;
  }
});

for (const area of document.querySelectorAll("textarea[data-json]")) {
  area.addEventListener("input", () => {
    let problem = "";
    try { if (area.value.trim()) JSON.parse(area.value); } catch (error) { problem = `Not valid JSON: ${error.message}`; }
    area.setCustomValidity(problem);
  });
}

// A link to a step opens it.
function openTarget() {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") { target.open = true; target.querySelector("summary").focus(); }
}

addEventListener("hashchange", openTarget);
openTarget();
