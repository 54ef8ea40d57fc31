// Tasks: a table whose rows open

const COLUMNS = [["Task"], ["State"], ["Attempts", "right"], ["Duration", "right"], ["CPU", "right wide"],
  ["Memory", "right wide"], ["Value", "wide"]];
const MAX_ITEMS = 50;
const MAX_DOTS = 20000;
const MAX_FILES = 20; // of an attempt

function taskTable(doc) {
  const { tasks } = doc;
  if (!tasks.length) return null;
  const rows = state.more.has("tasks") ? tasks : pick(tasks, MAX_ROWS);
  const hasGroups = new Set(tasks.map((task) => task.group)).size > 1;
  return section("tasks", "Tasks",
    h("div.table", { tabindex: 0, role: "region", "aria-label": "Table of the tasks" }, h("table", null,
      h("thead", null, h("tr", null, COLUMNS.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))),
      h("tbody", null, rows.map((task) =>
        [taskRow(task, doc, hasGroups), state.open.has(`task-${task.task_id}`) && detailRow(doc, task)])))),
    rows.length < tasks.length && moreButton("tasks", `Show all ${count(tasks.length, "task")}`));
}

function taskRow(task, doc, hasGroups) {
  const id = `task-${task.task_id}`;
  const attempts = attemptsOf(task);
  const allowed = isMap(task) ? 1 : Math.max(attempts, task.policy.attempts ?? 1);
  const isOpen = state.open.has(id);
  const error = last(last(task.attempts)?.errors ?? []);
  return h(`tr.task${isOpen ? ".open" : ""}`, { id },
    h("th", { scope: "row" }, h("button", { type: "button", "data-open": id, "aria-expanded": String(isOpen) },
      h("span.number", null, task.task_id), h("span", null, task.name),
      times(task), hasGroups && h("span.times", null, task.group))),
    h("td", null, badge(stateOf(task), taskWord(stateOf(task)))),
    h("td.right", null, attempts > 0 && (allowed > 1 ? `${attempts} of ${allowed}` : number(attempts))),
    h("td.right", null, duration(spent(task, doc))),
    h("td.right.wide", null, duration(task.cpu)),
    h("td.right.wide", null, size(task.peak)),
    h("td.wide.value", null, isMap(task) ? countsText(task) : code(task.glimpse || error?.exception),
      Object.keys(task.notes).length > 0 && h("span.noted", null, notesText(task.notes))));
}

const countsText = (task) => Object.entries(task.counts).map(stateCount).join(", ");
// The items of a map in rounds, or in other items: "1 in level[0]", "3 in level[1]"; of older runs "1 in round 0".
const countItems = ({ levels, items: { round: rounds } }) => [...Map.groupBy(rounds.filter((each) => each !== null), (each) => each)]
  .map(([round, items]) => `${number(items.length)} in ${levels?.length ? `${levels[0]}[${round}]` : `round ${round}`}`);
const times = (task) => isMap(task) && h("span.times", null, `×${number(task.count)}`);
const usage = ({ cpu, peak }) => [!isNothing(cpu) && `CPU ${duration(cpu)}`, peak && `memory ${size(peak)}`];

function detailRow(doc, task) {
  const attempts = task.attempts.filter((attempt) => attempt.attempt);
  return h("tr.detail", { id: `detail-${task.task_id}` }, h("td", { colspan: COLUMNS.length }, h("div", null,
    terms([
      ["Step", code(task.identity)],
      ["Group", task.group !== "default" && task.group],
      ["Needs", task.needs.length > 0 && task.needs.map((need) => [taskLink(doc.tasks[need]), " "])],
      ["Policy", policyText(task.policy)],
      ["Took", facts(duration(task.duration), ...usage(task))],
      [["Skipped", "Paused", "Running", "Crashed"].includes(task.state) ? "Reason" : "Value", code(task.glimpse)],
      [roundsOf(task) ? "Rounds" : "Items", isMap(task) && `${number(task.count)}: ${countsText(task)}`],
      ["Items by round", task.items?.round && listed(countItems(task), MAX_ITEMS)],
      ["Noted", notesText(task.notes)],
      ["Waited", waited(task) && `${duration(waited(task))} for limits${isMap(task) ? ", the item that waited the longest" : ""}`],
      ["Files", fileList(last(task.attempts))],
    ]),
    isMap(task) ? itemList(doc, task) : [attemptList(doc, task, null, attempts), callList(task, null, task.calls)])));
}

// Returns the longest wait of an attempt or an item for its limits; 0 for none.
const waited = (task) => largest([0, ...task.attempts.map((each) => each.waited ?? 0), ...(task.items?.waited ?? []).map((each) => each ?? 0)]);

// Returns what a step has noted: "rows 1,200, score 0.93"; of the items of a map the means.
const noteText = (value) => (typeof value === "number" ? numberText(value) : typeof value !== "object" ? value
  : value.min === value.max ? numberText(value.mean)
    : `${numberText(value.mean)} on average, ${numberText(value.min)} to ${numberText(value.max)}`);
const notesText = (notes) => Object.entries(notes ?? {}).map(([name, value]) => `${name} ${noteText(value)}`).join(", ");

// Shows the files of an attempt, as they were then.
function fileList(attempt) {
  const files = attempt?.files ?? [];
  return files.length > 0 && h("ul", null,
    files.slice(0, MAX_FILES).map((file) => h("li", null,
      code(file.path, file.sha256 && `SHA-256 ${file.sha256}`), " ",
      h("span.aside", null, facts(file.role, file.size === null ? "gone" : file.modified ? size(file.size) : "folder"), " ", time(file.modified)))),
    files.length > MAX_FILES && h("li.aside", null, `and ${count(files.length - MAX_FILES, "more file")}`));
}

const POLICY = {
  attempts: (value) => count(value, "attempt"),
  timeout: (value) => `timeout ${duration(value)}`,
  delay: (value) => `delay ${duration(value)}`,
  backoff: () => "doubled each time", max_delay: (value) => `at most ${duration(value)}`, jitter: () => "with jitter",
  poll: (value) => `asked every ${duration(value)}`, poll_timeout: (value) => `for ${duration(value)} at most`,
  repeat: (value) => `at most ${count(value, "round")}`,
  retry_on: (value) => `after ${listed([value].flat())}`,
};
const policyText = (policy) => facts(...Object.entries(policy).map(([name, value]) =>
  POLICY[name]?.(value) ?? `${name} ${value}`));

function attemptList(doc, task, item, attempts) {
  return h("ol.attempts", null, attempts.map((attempt) => {
    const output = outputOf(doc, task, item, attempt.attempt);
    const of = `attempt ${attempt.attempt} of ${named(task, item)}`;
    const title = `Attempt ${attempt.attempt}: ${word(attempt.state).toLowerCase()}`;
    const about = facts(
      attempt.began !== null && `began at ${duration(attempt.began)}`,
      attempt.duration !== null && `took ${duration(attempt.duration)}`,
      attempt.waited > 0 && `waited ${duration(attempt.waited)} for limits`,
      ...usage(attempt),
      notesText(attempt.notes),
      attempt.worker && `process ${attempt.worker}`, attempt.fallback && `by the fallback ${attempt.fallback}`);
    return h("li", { id: `attempt-${task.task_id}-${item ?? ""}-${attempt.attempt}` },
      h("p", null, badge(attempt.state, title), " ", h("span.aside", null, about)),
      attempt.errors.map((error) => [errorLines(error),
        error.traceback && fold("Traceback", false, tracebackBlock(error.traceback, `Traceback of ${of}`))]),
      output && fold(`Output, ${size(output.size)}`, true, outputBlock(output, `Output of ${of}`)));
  }));
}

function itemList(doc, task) {
  const key = `items-${task.task_id}`;
  const bad = badItems(task);
  const shown = state.more.has(key) ? bad : bad.slice(0, MAX_ITEMS);
  return [
    scatter(task, doc),
    shown.map(({ item, attempts, calls }) => h("details.item", { id: `item-${task.task_id}-${item}` },
      h("summary", null, icon(last(attempts).state), code(named(task, item)), given(attempts),
        last(last(attempts).errors)?.exception ?? last(attempts).state,
        h("span.aside", null, count(attempts.length, "attempt"))),
      attemptList(doc, task, item, attempts), callList(task, item, calls), fileList(last(attempts)))),
    shown.length < bad.length && moreButton(key, `Show all ${count(bad.length, itemWord(task))}`),
    unlistedItems(task) > 0 && h("p.aside", null, `and ${count(unlistedItems(task), `more ${itemWord(task)}`)} that failed`),
  ];
}

// Shows each item as a dot, by when it began and how long it took.
function scatter(task, doc) {
  const { began, duration: seconds, state: states, states: names } = task.items;
  if (!began || !seconds) return null;
  const most = largest(seconds) || 1;
  const [begin, end] = [timed(task)[0].began, endOf(last(timed(task)), doc)];
  const step = Math.ceil(began.length / MAX_DOTS);
  const dots = { completed: [], failed: [] };
  const slowest = [];
  began.forEach((moment, item) => {
    if (moment === null || seconds[item] === null) return;
    const isBad = BAD.includes(names[states[item]]);
    const [x, y] = [(1000 * (moment - begin)) / (end - begin || 1), 100 - (100 * seconds[item]) / most];
    if (isBad || item % step === 0) dots[isBad ? "failed" : "completed"].push(`M${x.toFixed(1)} ${y.toFixed(1)}h0`);
    if (slowest.length < 5 || seconds[item] > seconds[last(slowest)]) {
      slowest.push(item);
      slowest.sort((a, b) => seconds[b] - seconds[a]).splice(5);
    }
  });
  const label = `Each dot is ${roundsOf(task) ? "a round" : "an item"}: when it began, and how long it took, up to ${duration(most)}`;
  return h("figure", null,
    s("svg.scatter", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": label },
      Object.entries(dots).map(([name, parts]) => s(`path.${name}`, { d: parts.join("") }))),
    h("figcaption.aside", null, `${label}. Squares failed. The slowest: `,
      slowest.map((item) => `${task.levels?.length ? named(task, item) : `#${item}`} ${duration(seconds[item])}`).join(", ")));
}
