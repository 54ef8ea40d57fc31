// The page of a run, and what a reader does there.

const runView = (doc, room) => [header(doc), tiles(doc), wrong(doc), printing(doc), timeline(doc), graph(doc, room),
  taskTable(doc), runOutput(doc), environment(doc), footer(doc)];

const page = document.getElementById("page");
const state = { view: null, doc: null, open: new Set(), more: new Set() };

// Shows a view of an object; by default the same again.
function show(view = state.view, doc = state.doc) {
  Object.assign(state, { view, doc });
  patch(page, h("main", { id: "page" }, view(doc, page.clientWidth - 92)));
  showIcon(doc?.run?.state);
}

// Gives the tab the icon of a state, in its colour.
function showIcon(name) {
  const color = name ? getComputedStyle(page.querySelector("header")).borderTopColor : "gray";
  const shape = `<circle cx="8" cy="8" r="8" fill="${color}"/><path d="${ICONS[name] ?? ""}" fill="none" stroke="white"
    stroke-width="2"/>`;
  const picture = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${shape}</svg>`;
  const link = document.querySelector("link[rel=icon]");
  const address = `data:image/svg+xml,${encodeURIComponent(picture)}`;
  if (link.href !== address) link.href = address;
}

function openTask(id) {
  state.open.add(id);
  show();
  const row = document.getElementById(id);
  row?.scrollIntoView({ block: "start" });
  row?.querySelector("button").focus({ preventScroll: true });
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    getSelection().selectAllChildren(button.parentNode.querySelector("code"));
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

function toggle(set, key) {
  if (!set.delete(key)) set.add(key);
  show();
}

document.addEventListener("click", (event) => {
  const row = getSelection().isCollapsed && event.target.closest("tr.task")?.querySelector("[data-open]");
  const target = event.target.closest("[data-copy], [data-open], [data-more], a[href^='#task-']") ?? row;
  if (!target || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (target.dataset.copy) copy(target);
  else if (target.dataset.open) toggle(state.open, target.dataset.open);
  else if (target.dataset.more) toggle(state.more, target.dataset.more);
  else {
    event.preventDefault();
    openTask(target.getAttribute("href").slice(1));
  }
});
addEventListener("resize", () => state.view && show());
