// A workflow: its last runs with their tasks, and the values of its parameters.

function workflowView(doc) {
  const { runs, tasks, workflow_id } = doc;
  document.title = visible(`${workflow_id}: runs`);
  const counts = countStates(runs.map((run) => run.state)).map(stateCount).join(", ");
  const most = largest(runs.map((run) => run.duration ?? 0)) || 1;
  const [before, after] = runs.slice(-2);
  return [
    plainHeader(workflow_id, h("p.headline", null, runs.length ? [lastRuns(runs), counts] : "No runs.")),
    lastFailure(runs),
    doc.params.map(byParam),
    runs.length > 0 && section("matrix", "Runs and tasks",
      scroller("Grid of runs and tasks", h("table.matrix", null,
        h("thead", null, h("tr", null, h("th", { scope: "col" }, "Task"), runs.map((run) => columnHead(run, most)))),
        h("tbody", null, tasks.map((task) => h("tr", null, h("th", { scope: "row" }, task.name),
          task.cells.map((cell, index) => matrixCell(task, cell, runs[index]))))))),
      h("p.aside", null, "The newest run is on the right; the bars are durations, up to ", duration(most), ".")),
    durationTrends(doc),
    noteTrends(doc),
    h("p.pages", null, h("a", { href: viewUrl("", { workflow: workflow_id }) }, "List these runs"),
      after && h("a", { href: viewUrl("diff", { a: before.run_id, b: after.run_id }) }, "Compare the last two")),
  ];
}

// Returns why the last run that has ended failed, and when one completed before it.
function lastFailure(runs) {
  const latest = runs.findLast((run) => !["Queued", "Running"].includes(run.state));
  if (!BAD.includes(latest?.state)) return null;
  const good = runs.findLast((run) => run.state === "Completed");
  return h(`p.why.${slug(latest.state)}`, null,
    badge(latest.state), " ", ago(latest.ended), ", ", runLink(latest.run_id), ": ",
    latest.error || latest.reason || "no reason was recorded",
    h("span.also", null, good ? ["last completed ", ago(good.ended), ", ", runLink(good.run_id)]
      : "none of these runs completed"));
}

function columnHead(run, most) {
  const text = facts(run.state, lasted(run.state, run.duration), moments.format(new Date(run.began)));
  return h("th", { scope: "col", id: `run-${run.run_id}` }, h("a", { href: runUrl(run.run_id), title: text },
    h(`i.${slug(run.state)}`, { style: { height: percent(run.duration === null ? 1 : run.duration / most) } }),
    icon(run.state), h("span.hidden", null, `${short(run.run_id)}, ${text}`)));
}

function matrixCell(task, cell, run) {
  if (!cell) return h("td", null, h("span.hidden", null, "no such task"));
  const name = cell[0] ?? "Not started";
  const text = facts(word(name), duration(cell[1]));
  return h(`td.${slug(name)}`, { title: `${task.name}: ${text}, run ${short(run.run_id)}` },
    icon(name), h("span.hidden", null, text));
}

// Returns the values of a parameter with the state of the last run of each: days as a calendar of weeks.
function byParam({ param, is_days: isDays, values, left_out: leftOut }) {
  const counts = countStates(values.map((value) => value.state ?? "Missing"));
  return section(`by-${param}`, `By ${param}`,
    isDays ? calendar(param, values) : valueTable(param, values),
    h("p.legend", null, counts.map(([name, amount]) => [badge(name, `${number(amount)} ${name.toLowerCase()}`), " "])),
    leftOut > 0 && h("p.aside", null, isDays ? `${count(leftOut, "earlier day")} with runs left out.`
      : `${count(leftOut, "more value")} left out; those that have not completed come first.`));
}

const WEEKDAYS = ["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"];
const months = new Intl.DateTimeFormat("en", { month: "short", year: "numeric", timeZone: "UTC" });
const dayOf = ({ value }) => new Date(`${value}T00:00Z`);
const weekday = (value) => (dayOf(value).getUTCDay() + 6) % 7;
const weekOf = (value) => Math.floor((dayOf(value) / 86_400_000 + 3) / 7); // since 1970

function calendar(param, values) {
  const weeks = []; // without those between runs of the future
  for (const value of values) {
    if (!weeks.length || weekOf(value) !== weekOf(last(weeks).find(Boolean))) weeks.push([]);
    last(weeks)[weekday(value)] = value;
  }
  const monthOf = (week, index) => week.find((value) => value && dayOf(value).getUTCDate() === 1)
    ?? (index === 0 && last(week));
  return scroller(`Calendar of ${param}`, h("table.matrix.calendar", null,
    h("thead", null, h("tr", null, h("th", { scope: "col" }, h("span.hidden", null, "Day of the week")),
      weeks.map((week, index) => h("th", { scope: "col" },
        h("span.hidden", null, "Week of ", week.find(Boolean).value),
        monthOf(week, index) && h("span", { "aria-hidden": true }, months.format(dayOf(monthOf(week, index)))))))),
    h("tbody", null, WEEKDAYS.map((name, index) => h("tr", null, h("th", { scope: "row" }, name),
      weeks.map((week) => dayCell(week[index])))))));
}

// A link to the last run of a day. By the keyboard, only days that have not completed are reached: the list has all.
function dayCell(value) {
  if (!value) return h("td");
  const name = value.state ?? "Missing";
  const text = facts(`${value.value}: ${name}`, value.names > 1 && `${value.names} runs, this one first`, value.error);
  const sign = [icon(name), h("span.hidden", null, text)];
  return h(`td.${slug(name)}`, { title: text }, value.run_id === null ? sign
    : h("a", { href: runUrl(value.run_id), tabindex: name === "Completed" ? -1 : null }, sign));
}

function valueTable(param, values) {
  const heads = [param, "State", "Run", "What failed"].map((name) => h("th", { scope: "col" }, name));
  return h("div.table", { tabindex: 0, role: "region", "aria-label": `Values of ${param}` }, h("table", null,
    h("thead", null, h("tr", null, heads)),
    h("tbody", null, values.map((value) => h("tr", null, h("th", { scope: "row" }, value.value),
      h("td", null, badge(value.state)), h("td", null, runLink(value.run_id)), h("td.value", null, value.error))))));
}
