// Timeline: the bars of a run's tasks.

const MAX_ROWS = 300;
const BINS = 240; // of the bar of a map
const MIN_DENSITY = 0.02; // of the width: a shorter one has the colour of its task
const TENS = [-4, -3, -2, -1, 0].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
const STEPS = [...TENS, 10, 15, 30, 60, 120,
  300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800, 2592000];

function timeline(doc) {
  const { tasks } = doc;
  const ends = tasks.flatMap((task) => timed(task).map((attempt) => endOf(attempt, doc)));
  if (!ends.length) return null;
  const whole = Math.max(elapsed(doc), largest(ends), 1e-6);
  const step = STEPS.find((each) => whole / each <= 6) ?? whole;
  const ticks = Array.from({ length: Math.floor(whole / step) + 1 }, (_, index) => index * step);
  const at = (tick) => ({ style: { left: percent(tick / whole) } });
  const rows = pick(tasks, MAX_ROWS);
  const states = new Set(rows.flatMap((task) => task.items?.states ?? timed(task).map((each) => each.state)));
  if (rows.some((task) => task.items?.attempts)) states.add("Retry");
  return section("timeline", "Timeline",
    scroller("Timeline of the tasks", h("div.plot", null,
      h("div.axis", { "aria-hidden": true }, ticks.filter((tick) => tick / whole < 0.96).map((tick) =>
        h("span", at(tick), tick ? duration(tick) : "0"))),
      h("div.rows", null,
        h("div.grid", { "aria-hidden": true }, ticks.map((tick) => h("i", at(tick)))),
        rows.map((task) => timelineRow(task, doc, whole))))),
    rows.length < tasks.length && h("p.aside", null,
      `${rows.length} of ${count(tasks.length, "task")}: those that did not complete, and the longest`),
    h("ul.legend", { "aria-hidden": true }, Object.keys(ICONS).filter((name) => states.has(name))
      .map((name) => h("li", null, h(`i.bar.${slug(name)}`), word(name).toLowerCase())),
    rows.some(waited) && h("li", null, h("i.held"), "waited for a limit")));
}

function timelineRow(task, doc, whole) {
  const name = taskWord(stateOf(task));
  const attempts = task.attempts.length > 1 && `${task.attempts.length} attempts`;
  const text = [name, duration(spent(task, doc)), attempts].filter(Boolean).join(", ");
  return h("a.row", { href: `#task-${task.task_id}`, title: `${task.name}: ${text}` },
    h("span.label", null, icon(stateOf(task)), h("span.name", null, task.name), times(task)),
    h("span.hidden", null, `: ${text}`),
    h("span.track", { "aria-hidden": true },
      density(task, doc, whole) ?? bars(task, doc, whole),
      took(task, doc, whole)));
}

function bars(task, doc, whole) {
  const attempts = timed(task);
  const span = (begin, end) => ({ style: { left: percent(begin / whole), width: percent((end - begin) / whole) } });
  if (!attempts.length) return task.attempts.length > 0 && h("i.mark", null, stateOf(task).toLowerCase());
  return attempts.map((attempt, index) => {
    const end = endOf(attempt, doc);
    const held = attempt.waited > 0 && h("i.held", span(Math.max(0, attempt.began - attempt.waited), attempt.began));
    const next = attempts[index + 1]?.began ?? (attempt.state === "Retry" ? elapsed(doc) : end);
    return [held, h(`i.bar.${slug(attempt.state)}`, span(attempt.began, end)), next > end && h("i.delay", span(end, next))];
  });
}

// Returns the duration, where there is room for it: after the bars, before them, or inside.
function took(task, doc, whole) {
  const attempts = timed(task);
  if (!attempts.length) return null;
  const [begin, end] = [attempts[0].began / whole, endOf(last(attempts), doc) / whole];
  const text = duration(spent(task, doc));
  if (end < 0.88) return h("span.took", { style: { left: percent(end) } }, text);
  if (begin > 0.12) return h("span.took", { style: { right: percent(1 - begin) } }, text);
  return h("span.took.inside", { style: { left: percent(begin) } }, text);
}

// The items of a map as one bar: how many ran at a time, and where some failed or were repeated.
const densities = new WeakMap();

function density(task, doc, whole) {
  if (!task.items?.began || !timed(task).length) return null;
  const [begin, end] = [timed(task)[0].began, endOf(last(timed(task)), doc)];
  if (end - begin < MIN_DENSITY * whole) return null;
  if (!densities.has(task) || task.state === "Running") densities.set(task, densityPaths(task.items, begin, end));
  const style = { left: percent(begin / whole), width: percent((end - begin) / whole) };
  return s("svg.density", { viewBox: `0 0 ${BINS} 100`, preserveAspectRatio: "none", style },
    densities.get(task).map(([name, d]) => s(`path.${slug(name)}`, { d })));
}

function densityPaths(items, begin, end) {
  const changes = new Float64Array(BINS + 1);
  const marks = { Retry: new Set(), Failed: new Set() };
  const scale = BINS / Math.max(end - begin, 1e-9);
  const bin = (moment) => Math.min(BINS - 1, Math.max(0, Math.floor((moment - begin) * scale)));
  items.began.forEach((began, item) => {
    if (began === null) return;
    const seconds = items.duration?.[item] ?? null;
    const final = seconds === null ? BINS - 1 : bin(began + seconds);
    changes[bin(began)] += 1;
    changes[final + 1] -= 1;
    if (BAD.includes(items.states[items.state[item]])) marks.Failed.add(final);
    else if (items.attempts?.[item] > 1) marks.Retry.add(final);
  });
  let running = 0;
  const levels = Array.from({ length: BINS }, (_, index) => (running += changes[index]));
  const most = Math.max(1, ...levels);
  const heights = levels.map((level) => (level ? 85 - (85 * level) / most : 100).toFixed(1));
  const area = heights.map((height, index) => `V${height}H${index + 1}`).join("");
  const spikes = (bins) => [...bins].map((index) => `M${index} 100V0H${index + 1}V100Z`).join("");
  return [["Completed", `M0 100${area}V100Z`], ["Retry", spikes(marks.Retry)], ["Failed", spikes(marks.Failed)]];
}
