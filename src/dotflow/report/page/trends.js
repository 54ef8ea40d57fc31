// How numbers went over the runs of a workflow: the durations of its steps, and what they noted.

const MAX_TRENDS = 24; // steps, those that take longest, and numbers
const middle = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

function durationTrends({ runs, tasks }) {
  const seconds = (task) => task.cells.map((cell) => cell?.[1] ?? null);
  const longest = (task) => largest(seconds(task));
  const timedTasks = tasks.filter((task) => longest(task) > 0);
  const shown = [...timedTasks].sort((a, b) => longest(b) - longest(a)).slice(0, MAX_TRENDS);
  const states = (task) => task.cells.map((cell) => cell?.[0] ?? "Not started");
  return runs.length > 1 && shown.length > 0 && section("durations", "Durations of the steps",
    h("ul.cards.trends", null, timedTasks.filter((task) => shown.includes(task)).map((task) =>
      trend(task.name, runs, seconds(task), duration, bar(longest(task), states(task))))),
    shown.length < timedTasks.length &&
      h("p.aside", null, `${shown.length} of ${count(timedTasks.length, "step")}: those that took longest.`));
}

function noteTrends({ runs, notes }) {
  const shown = notes.slice(0, MAX_TRENDS);
  return shown.length > 0 && section("notes", "What the steps noted",
    h("ul.cards.trends", null, shown.map(({ task, name, values, of_items: ofItems }) => {
      const known = values.filter((value) => value !== null);
      const dot = [known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b))];
      return trend([task, " ", h("b", null, name), ofItems && h("span.aside", null, " mean of items")], runs, values,
        numberText, dots(...dot));
    })),
    shown.length < notes.length && h("p.aside", null, `and ${count(notes.length - shown.length, "more number")}`));
}

// A card with a value of each run, the newest on the right. For a mouse, since the grid of runs has the links, too.
function trend(title, runs, values, text, mark) {
  const known = values.filter((value) => value !== null);
  const [least, most] = [known.reduce((a, b) => Math.min(a, b)), known.reduce((a, b) => Math.max(a, b))];
  return h("li", null, h("span.name", null, title), h("strong", null, text(last(known))),
    h("span.bars", { "aria-hidden": true }, values.map((value, index) => (value === null ? h("a.none") : h("a", {
      href: runUrl(runs[index].run_id), tabindex: -1, ...mark(value, index),
      title: facts(text(value), moments.format(new Date(runs[index].began)), short(runs[index].run_id)) })))),
    h("small", null, known.length < 2 ? "in one run"
      : `usually ${text(middle(known))}, ${text(least)} to ${text(most)} in ${count(known.length, "run")}`));
}

const bar = (most, states) => (value, index) =>
  ({ class: slug(states[index]), style: { height: percent(Math.max(0.04, value / most)) } });
const dots = (least, most) => (value) =>
  ({ class: "dot", style: { "margin-bottom": `${(28 * (most > least ? (value - least) / (most - least) : 0.5)).toFixed(1)}px` } });
