// The pages of `dotflow ui`. Their objects are read again every second while they are visible.

const POLL = 1000; // milliseconds
const PER_PAGE = 50; // runs in the list
const MAX_OUTPUT = 2e6; // characters of an attempt
const MAX_PRINTING = 3; // attempts whose output so far is shown

const live = {
  tag: "", // of the object that is shown
  clock: 0, // the time of the server without that of this computer, in milliseconds
  notice: null, // why the last request failed
  requests: 0, // so far: the response to an older one is passed over
  outputs: new Map(), // what was read of them, by attempt
  chosen: [], // runs to compare
};

const now = () => Date.now() + live.clock;
const here = () => location.href.split(/[?#]/)[0].slice(ROOT.length);
const baseOf = (run) => (run.base || run.workflow).split("@")[0];
const viewUrl = (path, values) => ROOT + path + searchOf(values ?? {});
const runUrl = (id, values) => viewUrl(`runs/${encodeURIComponent(id)}`, values);
const workflowUrl = (id) => viewUrl("workflow", { id });

function searchOf(values) {
  const text = new URLSearchParams(Object.entries(values).filter(([, value]) => !isNothing(value))).toString();
  return text && `?${text}`;
}

// Returns the view of this address, and where its object is.
function route() {
  const path = here();
  if (path.startsWith("runs/")) return [liveRun, `api/${path}${location.search}`];
  if (path === "workflow") return [workflowView, `api/workflow${location.search}`];
  if (path === "diff") return [diffView, `api/diff${location.search}`];
  const given = filters();
  const overview = Object.keys(given).length ? null : 1;
  return [runsView, `api/runs${searchOf({ ...given, overview, limit: PER_PAGE })}`];
}

async function read(path, tag) {
  const headers = tag ? { "If-None-Match": tag } : {};
  const response = await fetch(ROOT + path, { headers, cache: "no-store" });
  return [response.status, response.headers.get("ETag"), response.status === 304 ? null : await response.json()];
}

async function refresh() {
  const turn = (live.requests += 1);
  let [notice, object] = [null, null];
  try {
    const [status, tag, found] = await read(route()[1], live.tag);
    if (turn !== live.requests) return;
    if (found?.error) notice = { text: found.error, isFinal: status === 404 || status === 400 };
    else [live.tag, object] = [tag ?? "", found];
  } catch {
    if (turn !== live.requests) return;
    notice = { text: "`dotflow ui` can't be reached: it has ended, or the connection is lost." };
  }
  live.notice = notice;
  if (object?.made) live.clock = Date.parse(object.made) - Date.now();
  redraw(object ?? state.doc);
  await Promise.all([readOutputs(), readRunningCalls()]);
}

function redraw(doc = state.doc) {
  if (doc?.run) {
    document.title = visible(`${doc.run.state}: ${titleOf(doc.run)}`);
    if (doc.run.state === "Running") doc.made = new Date(now()).toISOString(); // its bars grow
  }
  const followed = state.doc?.run?.state === "Running" ? [...outputBlocks()].filter(isAtEnd) : [];
  const hadGrid = document.querySelector(".matrix");
  show(framed, doc);
  // To the newest run, and the last day.
  if (!hadGrid) document.querySelectorAll(".matrix").forEach((grid) => grid.parentNode.scrollTo(1e6, 0));
  for (const block of followed) block.scrollTop = block.scrollHeight;
}

const outputBlocks = () => document.querySelectorAll("[data-output]");
const isAtEnd = (block) => block.scrollTop + block.clientHeight >= block.scrollHeight - 8;

async function poll() {
  try {
    if (!document.hidden) await refresh();
  } finally {
    setTimeout(poll, POLL);
  }
}

function framed(doc, room) {
  const { notice } = live;
  const [head, ...rest] = [doc ? route()[0](doc, room) : plainHeader(notice ? "Nothing to show" : "Reading …")].flat();
  return [
    h("nav.top", { "aria-label": "dotflow" }, h("a.brand", { href: ROOT }, "dotflow"),
      h("a", { href: ROOT, "aria-current": here() === "" && "page" }, "Runs"), comparisonLink(doc?.commands),
      orders.by !== null && h("span.aside", null, "as ", orders.by)),
    h("div", { id: "notice", role: "status" },
      notice && h("p.notice", null, words(notice.text), !notice.isFinal && " This page tries again every second.")),
    doc && waitingBar(doc),
    head, doc && orderBar(doc), rest,
  ];
}

function comparisonLink(commands) {
  const found = commands?.find((each) => each.command.startsWith("dotflow diff "));
  const [, a, b] = found?.command.match(/^dotflow diff (\w+) (\w+)/) ?? [];
  return a && h("a", { href: viewUrl("diff", { a, b }) }, found.purpose.replace("what differs from", "Compare with"));
}

// Returns a text in which `this` is code.
const words = (text) => text.split("`").map((part, index) => (index % 2 ? h("code", null, part) : part));
