// What a reader does on the pages of `dotflow ui`, and the first view.

let typed = 0; // the timer of the search

function setFilter(name, value) {
  const values = { ...filters(), [name]: value, before: "" };
  history.replaceState(null, "", viewUrl("", values));
  live.tag = "";
  refresh();
}

function choose(box) {
  const id = box.dataset.compare;
  live.chosen = live.chosen.filter((each) => each !== id);
  if (box.checked) live.chosen = [...live.chosen, id].slice(-2);
  for (const other of document.querySelectorAll("[data-compare]")) {
    other.checked = live.chosen.includes(other.dataset.compare);
  }
  redraw();
}

function onKey(event) {
  const isTyping = event.target.closest("input:not([type='checkbox']), select, textarea");
  const search = document.querySelector("[data-filter='search']");
  if (event.ctrlKey || event.metaKey || event.altKey || !search) return;
  const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
  if (event.key === "/" && !isTyping) search.focus();
  else if (step && (!isTyping || (event.target === search && event.key === "ArrowDown"))) moveFocus(step);
  else return;
  event.preventDefault();
}

function moveFocus(step) {
  const links = [...document.querySelectorAll(".run-link")];
  const isBelow = (link) => document.activeElement.compareDocumentPosition(link) & Node.DOCUMENT_POSITION_FOLLOWING;
  const index = links.includes(document.activeElement) ? links.indexOf(document.activeElement)
    : document.activeElement.matches("input") ? links.findIndex(isBelow) - 1 : -1; // from the search to its results
  links[Math.min(links.length - 1, Math.max(0, index + step))]?.focus();
}

function start() {
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("button[data-filter]");
    const calls = target.closest("[data-calls]")?.dataset;
    if (calls) readCalls(calls.calls, Number(calls.before));
    if (button) setFilter("state", button.dataset.value === "all" ? "" : button.dataset.value);
    if (!target.closest("a, input") && getSelection().isCollapsed) target.closest(".run")?.querySelector("a").click();
    readOutputs(); // what was opened
  });
  document.addEventListener("toggle", readOutputs, true);
  document.addEventListener("change", ({ target }) => {
    if (target.dataset.compare) choose(target);
    else if (target.matches("select[data-filter]")) setFilter(target.dataset.filter, target.value);
  });
  document.addEventListener("input", ({ target }) => {
    if (target.dataset.filter !== "search") return;
    clearTimeout(typed);
    typed = setTimeout(() => setFilter("search", target.value.trim()), 200);
  });
  document.addEventListener("submit", (event) => event.preventDefault());
  listenToButtons();
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  poll();
  readName().then(() => state.doc && redraw());
}

if (embedded) show(runView, JSON.parse(embedded.textContent));
if (embedded && location.hash.startsWith("#task-")) openTask(location.hash.slice(1));
if (ROOT) start();
