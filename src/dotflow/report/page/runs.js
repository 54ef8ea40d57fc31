// The list of runs.

const FILTERS = ["state", "workflow", "since", "search", "before"];
const STATES = [["", "All"], ["queued,paused", "Waiting"], ["running", "Running"], ["failed,crashed", "Failed"],
  ["completed", "Completed"], ["cancelled,interrupted", "Stopped"]];
const AGES = [["", "any time"], ["1h", "the last hour"], ["1d", "the last day"], ["7d", "the last 7 days"],
  ["30d", "the last 30 days"]];
const RUN_COLUMNS = [["Run"], ["State", "wide"], ["Began"], ["Duration", "right"], ["Tasks", "wide"],
  ["What failed", "wide"]];

const filters = () => Object.fromEntries([...new URLSearchParams(location.search)].filter(([name]) =>
  FILTERS.includes(name)));

function runsView(doc) {
  const { runs } = doc;
  document.title = "Runs";
  const given = filters();
  const isFiltered = Object.keys(given).length > 0;
  if (!runs.length && !isFiltered && !doc.queue?.count) return [plainHeader("No runs yet"), noRuns(doc)];
  return [
    plainHeader("Runs",
      doc.attention && h("p.headline", null, needsText(doc.attention) || "Nothing needs attention", "."),
      doc.history && h("ul.about", null, h("li", null, code(doc.history)))),
    attentionList(doc),
    workflowCards(doc),
    queueList(doc),
    section("runs", given.before ? "Older runs" : "Latest runs", filterForm(doc, given), comparison(),
      runs.length > 0 ? runTable(runs) : h("p.empty", null, "No such runs. ", h("a", { href: ROOT }, "Show all"))),
    h("p.pages", null,
      given.before && h("a", { href: viewUrl("", { ...given, before: "" }) }, "Newest runs"),
      doc.has_more && h("a", { href: viewUrl("", { ...given, before: last(runs).began }) }, "Older runs")),
  ];
}

const noRuns = (doc) => section("empty", "How to record runs",
  doc.history && h("p", null, "This page shows the history ", code(doc.history), ", which has none."),
  h("p", null, words("`dotflow start` and `dotflow schedule` record theirs. They appear here as soon as they begin:")),
  shell([{ command: "dotflow start --step my_module.my_step", purpose: "run a step" }]),
  h("p", null, "In a program:"),
  scroller("Python", h("pre", null, "from dotflow import Config, DotFlow\n"
    + "from dotflow.providers import HistorySQLite\n\n"
    + "workflow = DotFlow(Config(history=HistorySQLite()), workflow_id=\"nightly\")")));

function workflowCards({ durations }) {
  const cards = Object.entries(durations);
  return cards.length > 0 && section("workflows", "Workflows", h("ul.cards", null, cards.map(([id, runs]) => {
    const done = runs.filter(([, name]) => name === "Completed").map((run) => run[2]).sort((a, b) => a - b);
    return h(`li.${slug(last(runs)[1])}`, { id: `workflow-${id}` },
      h("a", { href: workflowUrl(id) }, id), badge(last(runs)[1]),
      durationBars(runs), h("span.hidden", null, lastRuns(runs)),
      h("small", null, facts(countStates(runs.map((run) => run[1])).map(stateCount).join(", "),
        done.length > 0 && `usually ${duration(done[Math.floor(done.length / 2)])}`)));
  })));
}

const lastRuns = (runs) => (runs.length > 1 ? `The last ${runs.length} runs: ` : "One run: ");

// The last runs of a workflow, the oldest first; for a mouse only, since each is a link elsewhere, too.
function durationBars(runs) {
  const most = largest(runs.map((run) => run[2] ?? 0)) || 1;
  return h("span.bars", { "aria-hidden": true }, runs.map(([id, name, seconds]) => h(`a.${slug(name)}`, {
    href: runUrl(id), tabindex: -1, title: facts(word(name), lasted(name, seconds), short(id)),
    style: { height: percent(Math.max(0.08, seconds === null ? 1 : seconds / most)) },
  })));
}

function filterForm(doc, given) {
  const option = (chosen) => ([value, text]) => h("option", { value, selected: value === (chosen ?? "") }, text);
  const ids = [...new Set([...doc.workflows, given.workflow])].filter(Boolean);
  const choice = (name, label, options) => h("label", null, label,
    h("select", { name, "data-filter": name }, options.map(option(given[name]))));
  return h("form.filters", { role: "search" },
    h("input", { type: "search", "data-filter": "search", "aria-label": "Search", value: given.search,
      placeholder: "Search: id, workflow, error", "aria-keyshortcuts": "/" }),
    h("div.states", { role: "group", "aria-label": "State" }, STATES.map(([value, text]) => h("button", {
      type: "button", "data-filter": "state", "data-value": value || "all",
      "aria-pressed": String(value === (given.state ?? "")) }, text))),
    choice("workflow", "Workflow", [["", "any"], ...ids.map((id) => [id, id])]),
    choice("since", "Began", AGES));
}

function comparison() {
  const [a, b] = live.chosen;
  return a && h("p.comparison", { role: "status" }, "Compare ", code(short(a)), b ? [" with ", code(short(b)), ": ",
    h("a", { href: viewUrl("diff", { a, b }) }, "Show what differs")] : " with another run: choose it below.");
}

const runTable = (runs, label = "Table of the runs") =>
  h("div.table", { tabindex: 0, role: "region", "aria-label": label }, h("table", null,
    h("thead", null, h("tr", null, h("td"), RUN_COLUMNS.map(([name, kind]) =>
      h("th", { scope: "col", class: kind }, name)))),
    h("tbody", null, runs.map(runRow))));

function runRow(run) {
  const { run_id, workflow, completed, tasks } = run;
  const base = baseOf(run);
  const params = workflow.slice(base.length).replace("@", "");
  const others = tasks - completed - run.failed - run.skipped;
  const counts = [["Completed", completed], ["Failed", run.failed], ["Skipped", run.skipped],
    [run.state === "Running" ? "Running" : "Not started", others]].filter(([, amount]) => amount > 0);
  const isRunning = run.duration === null && run.state === "Running";
  const seconds = isRunning ? Math.floor((now() - Date.parse(run.began)) / 1000) : run.duration;
  const text = run.state + (run.state === "Queued" ? waitsFor(run) : run.ordered ? `, ${run.ordered} ordered` : "")
    + (run.silence ? `, no sign of life for ${Math.round(run.silence)} s` : "");
  return h("tr.run", { id: `run-${run_id}` },
    h("td", null, h("input", { type: "checkbox", "data-compare": run_id, "aria-label": `Compare ${short(run_id)}` })),
    h("th", { scope: "row" }, icon(run.state),
      h("a.run-link", { href: runUrl(run_id) }, run.name || base || "run"), " ",
      code(short(run_id), run_id), params && [" ", h("span.times", null, params)]),
    h("td.wide", null, h(`span.${slug(run.state)}`, null, text)),
    h("td", null, h("span.hidden.narrow", null, text, ", "), !hasBegun(run) && "queued ", ago(run.began)),
    h("td.right", null, seconds !== null && lasted(run.state, seconds)),
    h("td.wide.progress", null, h("div", null, stateBar(counts), tasks > 0 && `${completed} of ${tasks}`)),
    h("td.wide.value", { title: run.error || run.reason }, run.error || run.reason));
}

function ago(iso) {
  const seconds = Math.max(0, (now() - Date.parse(iso)) / 1000);
  const text = seconds < 1 ? "now" : seconds > 7 * 86400 ? moments.format(new Date(iso)) : `${spanText(seconds)} ago`;
  return h("time", { datetime: iso, title: moments.format(new Date(iso)) }, text);
}
