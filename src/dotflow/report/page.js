"use strict";
// Draws a page from the JSON objects that docs/run-as-json.md describes. A view returns the elements for an object, and
// `show` changes the page to match them: what is open, scrolled, focused or selected stays so.

const embedded = document.getElementById("data"); // of a report
const ROOT = embedded ? null : new URL(".", document.currentScript.src).href; // of `dotflow ui`

// ---- Elements. Texts go in as text only, so nothing that a run says is markup.

// Characters that a browser does not show, or that reorder the text around them.
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
const ESCAPES = /\x1b\[[0-9;?]*[A-Za-z]/g; // colours and the like of a terminal
const escapeChar = (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
const visible = (text) => String(text).replace(ESCAPES, "").replace(INVISIBLE, escapeChar);
const isNothing = (value) => value === null || value === undefined || value === false || value === "";

// Returns an element: h("p.name", { id: "a" }, child, [child, child]). What is nothing is left out.
const maker = (make) => (tag, attributes, ...children) => {
  const [name, ...classes] = tag.split(".");
  const element = make(name);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key === "style") Object.entries(value).forEach((pair) => element.style.setProperty(...pair));
    else if (!isNothing(value)) element.setAttribute(key, value);
  }
  for (const child of children.flat(Infinity)) {
    if (!isNothing(child)) element.append(child instanceof Node ? child : visible(child));
  }
  return element;
};
const h = maker((name) => document.createElement(name));
const s = maker((name) => document.createElementNS("http://www.w3.org/2000/svg", name));

// Makes an element like a fresh one. Children with an id are found again wherever they stand.
function patch(element, fresh) {
  if (element.nodeType === Node.TEXT_NODE) {
    // Text that only grows keeps what is selected in it.
    if (fresh.data.startsWith(element.data)) element.appendData(fresh.data.slice(element.data.length));
    else element.data = fresh.data;
    return;
  }
  patchAttributes(element, fresh);
  const byId = new Map([...element.children].filter((child) => child.id).map((child) => [child.id, child]));
  let next = element.firstChild;
  for (const child of [...fresh.childNodes]) {
    const known = child.id ? byId.get(child.id) : next;
    if (known?.nodeName === child.nodeName && (known.id ?? "") === (child.id ?? "")) {
      if (known === next) next = next.nextSibling;
      else element.insertBefore(known, next);
      patch(known, child);
    } else {
      element.insertBefore(child, next);
    }
  }
  for (let rest = next; rest; rest = next) {
    next = rest.nextSibling;
    rest.remove();
  }
}

function patchAttributes(element, fresh) {
  const isKept = (name) => name === "style" || (name === "open" && element.nodeName === "DETAILS");
  for (const { name } of [...element.attributes]) {
    if (!fresh.hasAttribute(name) && !isKept(name)) element.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (element.getAttribute(name) !== value && !isKept(name)) element.setAttribute(name, value);
  }
  if (element.style.cssText !== fresh.style.cssText) element.style.cssText = fresh.style.cssText;
}

// ---- Texts

const grouped = new Intl.NumberFormat("en");
const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const number = (value) => grouped.format(value);
const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
const short = (id) => id.slice(0, 8);
const last = (list) => list[list.length - 1];
const sum = (values) => values.reduce((total, value) => total + value, 0);
const largest = (values) => values.reduce((most, value) => (value > most ? value : most), 0); // of any number of them
const facts = (...parts) => parts.filter((part) => !isNothing(part)).join(" · ");
const named = (task, item) => (item === null ? task.name : `${task.name}#${item}`);
const given = (attempts) => last(attempts)?.input && h("span.aside", null, code(last(attempts).input));
const time = (iso) => iso && h("time", { datetime: iso, title: iso }, moments.format(new Date(iso)));

function listed(words, most = words.length) {
  const shown = words.length > most ? [...words.slice(0, most - 1), `${words.length - most + 1} more`] : words;
  return shown.length < 2 ? shown.join("") : `${shown.slice(0, -1).join(", ")} and ${last(shown)}`;
}

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function duration(seconds) {
  if (isNothing(seconds)) return "";
  if (seconds < 59.95 && Number.isInteger(seconds)) return `${seconds} s`;
  if (seconds < 0.9995) return seconds < 0.00095 ? "< 1 ms" : `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
  let left = Math.round(seconds);
  const parts = UNITS.map(([unit, name]) => {
    const amount = Math.floor(left / unit);
    left -= amount * unit;
    return amount && `${amount} ${name}`;
  });
  const first = parts.findIndex(Boolean);
  return parts.slice(first, first + 2).filter(Boolean).join(" ");
}

function size(bytes) {
  if (isNothing(bytes)) return "";
  const [factor, unit] = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]].find(([least]) => bytes >= least) ?? [1, "B"];
  return `${(bytes / factor).toFixed(bytes < 10 * factor && factor > 1 ? 1 : 0)} ${unit}`;
}

// ---- States. Each has a word, an icon and a colour; these are in the order of a legend.

const ICONS = {
  Completed: "M4.7 8.2 7 10.5 11.3 5.8",
  Restored: "M4.7 8.2 7 10.5 11.3 5.8",
  Cached: "M4.9 6.2H11.1M4.9 8H11.1M4.9 9.8H11.1",
  Skipped: "M5 5 8 8 5 11M8.4 5 11.4 8 8.4 11",
  Running: "M8 4.2V8L10.6 9.6",
  Retry: "M11.2 8A3.3 3.3 0 1 1 9.9 5.4M10 3.4V5.6H7.8",
  Paused: "M6.3 5.3V10.7M9.7 5.3V10.7",
  Cancelled: "M5.8 5.8H10.2V10.2H5.8Z",
  Interrupted: "M5.8 5.8H10.2V10.2H5.8Z",
  Failed: "M5.4 5.4 10.6 10.6M10.6 5.4 5.4 10.6",
  Crashed: "M8.9 3.6 5.6 8.6H8.2L7.2 12.4 10.5 7.4H7.9Z",
  Unknown: "M5.9 6.2A2.1 2.1 0 1 1 8 8.3V9.3M8 11V11.6",
  Queued: "M5 8H5.01M8 8H8.01M11 8H11.01",
  Missing: "M8 4.4V8.8M8 11.4V11.6",
  "Not started": "",
};
const BAD = ["Failed", "Crashed"];
const GOOD = ["Completed", "Restored", "Cached"];
const UNENDED = ["Crashed", "Unknown"]; // of runs: their duration is that until the last event or output
const word = (name) => (name === "Retry" ? "Failed, tried again" : name);
const lasted = (state, seconds) => (UNENDED.includes(state) ? "at least " : "") + duration(seconds);
const slug = (name) => name.toLowerCase().replace(" ", "-");
const icon = (name) => s(`svg.icon.${slug(name)}`, { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": true },
  s("circle", { cx: 8, cy: 8, r: 7 }), s("path", { d: ICONS[name] }));
const badge = (name, text = word(name)) => h(`span.badge.${slug(name)}`, null, icon(name), text);
const taskWord = (name) => (name === "Retry" ? "Waiting" : name); // for the next attempt

// ---- What the tasks of a run amount to

const stateOf = (task) => task.state ?? "Not started";
const isMap = (task) => task.count !== null;
const begunItems = (task) => task.items.state.filter((each) => each !== null).length;
const attemptsOf = (task) => (!isMap(task) ? task.attempts.filter((each) => each.attempt).length
  : task.items.attempts ? sum(task.items.attempts) : begunItems(task));
const timed = (task) => task.attempts.filter((attempt) => attempt.attempt && attempt.began !== null);
const hasBegun = (run) => run.has_begun !== false;
const elapsed = (doc) => doc.run.duration ?? (Date.parse(doc.made) - Date.parse(doc.run.began)) / 1000;
const endOf = (attempt, doc) =>
  Math.max(attempt.began, attempt.duration === null ? elapsed(doc) : attempt.began + attempt.duration);
const spent = (task, doc) => task.duration ?? (task.state === "Running" && timed(task).length
  ? elapsed(doc) - timed(task)[0].began : null);
const doneItems = (task) => sum(GOOD.map((name) => task.counts[name] ?? 0));
const badItems = (task) => task.details.filter(({ attempts }) => BAD.includes(last(attempts).state));
const unlistedItems = (task) => sum(BAD.map((name) => task.counts[name] ?? 0)) - badItems(task).length;
const outputOf = (doc, task, item, attempt) => doc.output?.find((each) =>
  each.task_id === task.task_id && each.item === item && each.attempt === attempt);
const commandsOf = (doc, task_id, item) =>
  doc.commands.filter((each) => each.task_id === task_id && each.item === item);

const countStates = (names) => Object.keys(ICONS)
  .map((name) => [name, names.filter((each) => each === name).length]).filter(([, amount]) => amount);

// Of many tasks, those that matter: all would take long to draw, and to read.
function pick(tasks, most) {
  if (tasks.length <= most) return tasks;
  const rank = (task) => (BAD.includes(task.state) ? 2e12 : GOOD.includes(task.state) ? 0 : 1e12);
  const weight = (task) => rank(task) + (task.duration ?? 0);
  const heaviest = [...tasks].sort((a, b) => weight(b) - weight(a)).slice(0, most);
  return heaviest.sort((a, b) => a.task_id - b.task_id);
}

const hasFailed = (task) => task.state === "Failed" || (task.state === "Running" && task.counts.Failed > 0);

// Whether a run went on with the other items of a map.
const wentOn = (doc, task) => isMap(task) && task.counts.Completed > 0 && (task.state === "Running" ||
  doc.tasks.some((other) => other.needs.includes(task.task_id) && timed(other).length > 0));

// Returns what failed: what stopped the run, then what it went on without, each in the order of time. Items with the
// same error from the same line are one failure.
function failuresOf(doc) {
  const failures = doc.tasks.filter((task) => hasFailed(task) || task.state === "Crashed"
    || (task.state === "Retry" && doc.run.state === "Crashed")).flatMap((task) => {
    const causes = new Map();
    const items = isMap(task) ? badItems(task) : [];
    for (const { item, attempts } of items.length ? items : [{ item: null, attempts: task.attempts }]) {
      const error = last(last(attempts).errors);
      const cause = error ? `${error.exception} ${raisedAt(error.traceback)?.where}` : "";
      if (causes.has(cause)) causes.get(cause).others.push(`#${item} ${last(attempts).input}`.trim());
      else causes.set(cause, { task, item, attempts, error, others: [] });
    }
    return [...causes.values()];
  });
  const weight = ({ task, attempts }) => endOf(last(attempts), doc) + (wentOn(doc, task) ? 1e12 : 0);
  return failures.sort((a, b) => weight(a) - weight(b));
}

function relative(file) {
  const folder = `${state.doc.run.environment?.folder}/`;
  return file.startsWith(folder) ? file.slice(folder.length) : file;
}

const FRAME = /^ +File "(.+)", line (\d+), in (.+)(?:\n {4}(\S.*))?/gm;
const isLibrary = (file) => /site-packages|dist-packages|lib\/python\d|^</.test(file);

// Returns the line that raised an error: the last one outside of libraries.
function raisedAt(text) {
  const frames = [...text.matchAll(FRAME)];
  const frame = last(frames.filter(([, file]) => !isLibrary(file))) ?? last(frames);
  return frame && { where: `${relative(frame[1])}:${frame[2]}`, name: frame[3], code: frame[4] };
}

// Returns what there is to say for those who read nothing else.
function headline(doc) {
  const { run, tasks } = doc;
  const namesOf = (name) => tasks.filter((task) => stateOf(task) === name).map((task) => task.name);
  const be = (names, verbs) => `${listed(names, 4)} ${verbs[names.length > 1 ? 1 : 0]}`;
  const failed = tasks.filter(hasFailed).sort((a, b) => wentOn(doc, a) - wentOn(doc, b)).map(failureText);
  const failures = failed.length > 2 ? `${failed[0]}, and ${count(failed.length - 1, "more task")}` : failed.join("; ");
  const [running, crashed, waiting, idle] = ["Running", "Crashed", "Retry", "Not started"].map(namesOf);
  const outcomes = {
    Running: running.length > 0 && `${be(running, ["is", "are"])} running${progressText(tasks)}`,
    Completed: slowestText(tasks),
    Crashed: `The process ended ${crashed.length ? `while ${be(crashed, ["was", "were"])} running`
      : waiting.length ? `while ${be(waiting, ["was", "were"])} between two attempts` : "before it"}`,
    Failed: !failures && run.error,
  };
  const outcome = run.state === "Queued" ? `It waits in the queue${waitsFor(run)}`
    : run.state in outcomes ? outcomes[run.state] : run.reason || run.error || "It was stopped";
  const ordered = run.ordered && `It was ordered to ${run.ordered}`;
  const rest = idle.length > 0 && run.state !== "Running" && `${listed(idle, 3)} did not start`;
  return [outcome, ordered, failures, rest].filter(Boolean).map((text) => `${text}.`).join(" ");
}

const LONG_WAIT = 600; // seconds that a run that is due may wait unmentioned

// Returns what a queued run waits for.
function waitsFor(run) {
  const due = run.due && Date.parse(run.due) > Date.now() && `not before ${moments.format(new Date(run.due))}`;
  const waited = run.due ? (Date.now() - Date.parse(run.due)) / 1000 : 0;
  return [due, waited > LONG_WAIT && `for ${duration(waited)}`, run.workflow_paused_by && `${run.workflow_paused_by} paused its workflow`, run.is_served === false && "no process serves it"].filter(Boolean).map((text) => `, ${text}`).join("");
}

function progressText(tasks) {
  const map = tasks.find((task) => task.state === "Running" && task.count);
  return map ? `: ${number(doneItems(map))} of ${count(map.count, "item")} completed` : "";
}

function slowestText(tasks) {
  const [first] = tasks.filter((task) => task.duration).sort((a, b) => b.duration - a.duration);
  return first && tasks.length > 1 && `All completed; ${first.name} took the longest, ${duration(first.duration)}`;
}

function failureText(task) {
  if (task.counts.Failed) return `${count(task.counts.Failed, "item")} of ${task.name} failed`;
  const error = last(last(task.attempts).errors);
  const attempts = task.attempts.length > 1 ? ` after ${task.attempts.length} attempts` : "";
  return `${task.name} failed${attempts}${error ? ` with ${error.exception}` : ""}`;
}

// ---- Parts that several sections use

const MAX_MESSAGE = 1000; // characters

const section = (id, title, ...children) => h("section", { id, "aria-labelledby": `${id}-title` },
  h("h2", { id: `${id}-title` }, title), children);
const fold = (title, isOpen, ...children) => h("details", { open: isOpen }, h("summary", null, title), children);
const scroller = (label, ...children) =>
  h("div.scroll", { tabindex: 0, role: "region", "aria-label": label }, children);
const code = (text, title) => (isNothing(text) ? null : h("code", { title }, text));
const taskLink = (task, text = task.name) => h("a.task-link", { href: `#task-${task.task_id}` }, text);
const moreButton = (key, text) => h("button.more", { type: "button", "data-more": key }, text);
const terms = (pairs) => h("dl", null, pairs.filter(([, value]) => !isNothing(value)).map(([term, value]) =>
  [h("dt", null, term), h("dd", null, value)]));
const shell = (commands) => commands.length > 0 && h("ul.shell", null, commands.map((each) => h("li", null,
  h("p", null, h("code", null, each.command), each.purpose && h("span", null, ` # ${each.purpose}`)),
  h("button", { type: "button", "data-copy": each.command, "aria-label": `Copy: ${each.command}` }, "Copy"))));

// Returns the beginning of a message if a traceback has all of it.
const messageOf = ({ message, traceback }) =>
  (traceback && message.length > MAX_MESSAGE ? `${message.slice(0, MAX_MESSAGE)} …` : message);

function errorLines(error) {
  const raised = raisedAt(error.traceback);
  return [
    h("p.message", null, h("b", null, error.exception), error.message && `: ${messageOf(error)}`),
    raised && h("p.raised-at", null, raised.code && h("code.line", null, raised.code),
      h("span", null, "in ", code(raised.name), ", ", code(raised.where))),
    error.refusal && h("p.also", null, `Not repeated: ${error.refusal}.`),
  ];
}

// Returns a traceback in which the frames of the user's own code stand out from those of libraries.
function tracebackBlock(text, label) {
  let kind = "own";
  const lines = text.trimEnd().split("\n").map((line) => {
    const file = line.match(/^ +File "(.+)", line \d+/)?.[1];
    if (file) kind = isLibrary(file) ? "library" : "own";
    else if (/^\S/.test(line)) kind = /^(Traceback |During |The above )/.test(line) ? "library" : "raised";
    return h(`span.${kind}`, null, `${file ? line.replace(file, relative(file)) : line}\n`);
  });
  return scroller(label, h("pre.traceback", null, lines));
}

// Of a progress bar, only the last state is shown.
const asLines = (text) => text.replace(/\r+\n/g, "\n").replace(/^.*\r(?=[^\n])/gm, "").replace(/\n$/, "").split("\n");

function outputBlock(output, label, most = Infinity) {
  const blocks = output.left_out ? [{ stream: 0, text: leftOut(output.left_out) }] : [];
  for (const part of output.parts) {
    if (part.skipped) blocks.push({ stream: 0, text: leftOut(part.skipped) });
    if (!part.stream) continue;
    if (last(blocks)?.stream === part.stream) last(blocks).text += part.text;
    else blocks.push({ stream: part.stream, text: part.text });
  }
  const shown = [];
  for (let left = most, block = blocks.pop(); block && left > 0; block = blocks.pop()) {
    const lines = asLines(block.text);
    shown.unshift(h(["span.gap", "span.out", "span.err"][block.stream], null, lines.slice(-left).join("\n")));
    left -= lines.length;
  }
  const attributes = { tabindex: 0, role: "region", "aria-label": label, "data-output": outputKey(output) };
  return h("div.scroll", attributes, h("pre.output", null, shown));
}

const outputKey = ({ task_id, item, attempt }) => `${task_id}/${item ?? ""}/${attempt}`;
const leftOut = (bytes) => `… ${count(bytes, "byte")} left out …`;

// ---- Header and tiles

function header(doc) {
  const { run } = doc;
  const title = titleOf(run);
  const { commit } = run.environment ?? {};
  const about = [
    hasBegun(run) ? ["began ", time(run.began)] : ["queued ", time(run.began)],
    ...chainOf(run),
    run.mode && [run.mode, run.resumed && ", resumed"],
    run.trigger && `by ${run.trigger}`,
    commit && ["commit ", code(short(commit), commit)],
    run.process && ["process ", code(run.process)],
    run.parent && ["started by task ", run.parent.task_id, " of run ", runLink(run.parent.run_id)],
    run.children.length > 0 && ["started ", run.children.slice(0, 4).map((id) => [runLink(id), " "]),
      run.children.length > 4 && `and ${count(run.children.length - 4, "more run")}`],
    /^https?:/.test(run.trace_url) && h("a", { href: run.trace_url, rel: "noreferrer" }, "trace"),
  ];
  return h(`header.${slug(run.state)}`, null,
    h("p.crumbs", null, "dotflow run ", code(short(run.run_id), run.run_id),
      run.workflow && (ROOT || title !== run.workflow) && [" of ", workflowLink(run.workflow)]),
    h("h1", null, h("span", null, title), badge(run.state)),
    h("p.headline", null, headline(doc)),
    h("ul.about", null, about.filter(Boolean).map((each) => h("li", null, each))));
}

const runLink = (id, values) => (ROOT ? h("a", { href: runUrl(id, values) }, code(short(id), id)) : code(short(id), id));

// Returns the other runs of its chain, and the one that has replaced its values. Their pages show them as they are.
function chainOf(run) {
  const chain = run.chain ?? [];
  const place = chain.indexOf(run.run_id);
  const links = (ids) => ids.map((id) => [runLink(id, { this: 1 }), " "]);
  return [
    place > 0 && ["continues ", links(chain.slice(0, place).reverse())],
    place >= 0 && place < chain.length - 1 && ["goes on as ", links(chain.slice(place + 1).reverse())],
    run.superseded && ["replaced by ", runLink(run.superseded)],
  ];
}

const titleOf = (run) => run.name || run.workflow || `run ${short(run.run_id)}`;

const workflowLink = (id) => (ROOT ? h("a", { href: workflowUrl(baseOf(id)) }, code(id)) : code(id));

function tiles(doc) {
  const { run, tasks } = doc;
  if (!hasBegun(run)) return null;
  const maps = tasks.filter(isMap);
  const failed = sum(maps.map((task) => task.counts.Failed ?? 0));
  const attempts = sum(tasks.map(attemptsOf));
  const firsts = sum(tasks.map((task) => (isMap(task) ? begunItems(task) : Math.min(1, attemptsOf(task)))));
  const cpu = sum(tasks.map((task) => task.cpu ?? 0));
  const cores = cpu / elapsed(doc);
  const top = tasks.reduce((most, task) => ((task.peak ?? 0) > (most?.peak ?? 0) ? task : most), null);
  const counts = countStates(tasks.map(stateOf));
  const others = counts.filter(([name]) => name !== "Completed").map(stateCount).join(", ");
  const done = tasks.filter((task) => GOOD.includes(task.state)).length;
  return h("ul.tiles", null,
    tile(duration(elapsed(doc)), run.state === "Running" ? "so far" : run.is_end_known ? "duration" : "at least"),
    tile(`${number(done)} of ${number(tasks.length)}`, "tasks completed", stateBar(counts), h("small", null, others)),
    maps.length > 0 && tile(number(sum(maps.map((task) => task.count))), "items",
      failed ? h("small.bad", null, `${number(failed)} failed`)
        : h("small", null, `${number(sum(maps.map(doneItems)))} completed`)),
    attempts > 0 && tile(number(attempts), "attempts",
      h("small", null, attempts > firsts ? `${number(attempts - firsts)} repeated` : "none repeated")),
    cpu > 0 && tile(duration(cpu), "CPU time",
      h("small", null, cores >= 0.05 && `${cores.toFixed(1)} cores on average`)),
    top && tile(size(top.peak), "peak memory", h("small", null, "in ", top.name)));
}

const tile = (value, label, ...more) => h("li", null, h("strong", null, value), h("span", null, label), more);
const stateBar = (counts) => h("span.state-bar", { "aria-hidden": true },
  counts.map(([name, amount]) => h(`i.${slug(name)}`, { style: { "flex-grow": amount } })));

// ---- What went wrong

const MAX_FAILURES = 20;
const MAX_LINES = 14; // of the output

function wrong(doc) {
  const { run } = doc;
  const failures = failuresOf(doc);
  const isStopped = ["Crashed", "Cancelled", "Interrupted", "Paused", "Unknown"].includes(run.state);
  if (!failures.length && ["Queued", "Running"].includes(run.state)) return shell(commandsOf(doc, null, null));
  if (!failures.length && !isStopped && run.state !== "Failed") return null;
  const title = { Unknown: "What is unknown", Paused: "Why it is paused" }[run.state]
    ?? (isStopped ? "Why it stopped" : `What went wrong${run.state === "Running" ? " so far" : ""}`);
  const reason = isStopped ? reasonText(run) : !failures.length && (run.error || run.reason || "No task failed.");
  return section("wrong", title,
    reason && h(`p.why.${slug(run.state)}`, null, reason),
    failures.slice(0, MAX_FAILURES).map((failure, index) => failureCard(doc, failure, index === 0)),
    failures.length > MAX_FAILURES &&
      h("p.aside", null, `and ${count(failures.length - MAX_FAILURES, "more failure")}`),
    shell(commandsOf(doc, null, null)));
}

function reasonText(run) {
  if (run.state !== "Crashed") return [badge(run.state), " ", run.reason || run.error || "No reason was recorded."];
  return [badge(run.state), " The process ended before the run: it was killed, ran out of memory, or the machine ",
    "stopped. ",
    "The last that is known of it is from ", time(run.ended), "."];
}

function failureCard(doc, { task, item, attempts, error, others }, isFirst) {
  const attempt = last(attempts);
  const allowed = Math.max(task.policy.attempts ?? 1, attempts.length);
  const output = outputOf(doc, task, item, attempt.attempt);
  const about = facts(`task ${task.task_id}`, allowed > 1 && `attempt ${attempt.attempt} of ${allowed}`,
    attempt.duration !== null && `after ${duration(attempt.duration)}`, attempt.peak && `memory ${size(attempt.peak)}`);
  const commands = commandsOf(doc, task.task_id, item);
  commands.sort((a, b) => b.command.includes(" replay ") - a.command.includes(" replay "));
  const unknown = attempt.state === "Crashed" ? "was running when the process ended" : "No error was recorded.";
  const name = named(task, item);
  const same = listed(others, 8);
  const also = [
    others.length > 0 && `${count(others.length, "more item")} failed in the same way: ${same}.`,
    isMap(task) && unlistedItems(task) > 0 && `${count(unlistedItems(task), "more item")} failed.`,
    wentOn(doc, task) && "The run went on with the other items.",
    attempt.state === "Retry" && "The process ended before the next attempt.",
  ].filter(Boolean);
  return h("article.failure", { id: `failure-${task.task_id}-${item ?? ""}` },
    h("h3", null, icon(attempt.state), taskLink(task, name), given(attempts), h("span.aside", null, about)),
    error ? errorLines(error) : h("p.also", null, unknown),
    also.length > 0 && h("p.also", null, also.join(" ")),
    earlierAttempts(attempts, error),
    h("div.evidence", null,
      error?.traceback && fold("Traceback", isFirst, tracebackBlock(error.traceback, `Traceback of ${name}`)),
      output && fold(`Last output, ${size(output.size)} in all`, isFirst,
        outputBlock(output, `Output of ${name}`, MAX_LINES))),
    shell(isFirst ? commands : commands.slice(0, 1)));
}

function earlierAttempts(attempts, error) {
  const earlier = attempts.slice(0, -1).filter((each) => each.errors.length);
  const errorOf = (each) => last(each.errors);
  const isSame = (each) => errorOf(each).exception === error?.exception && errorOf(each).message === error?.message;
  const known = earlier.map(errorOf).filter((each) => each.retry_in !== null);
  const delays = listed(known.map((each) => duration(each.retry_in)), 5);
  if (earlier.length > 1 && earlier.every(isSame)) {
    return h("p.earlier", null, icon("Retry"),
      `The ${earlier.length} attempts before failed with the same error`,
      delays && `, and were repeated after ${delays}`, ".");
  }
  return earlier.slice(-5).map((each) => h("p.earlier", null, icon("Retry"), h("span", null,
    `Attempt ${each.attempt}: `,
    isSame(each) ? "the same" : code(`${errorOf(each).exception}: ${errorOf(each).message}`),
    errorOf(each).retry_in !== null && `, repeated after ${duration(errorOf(each).retry_in)}`)));
}

// ---- Timeline

const MAX_ROWS = 300;
const BINS = 240; // of the bar of a map
const MIN_DENSITY = 0.02; // of the width: a shorter one has the colour of its task
const TENS = [-4, -3, -2, -1, 0].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
const STEPS = [...TENS, 10, 15, 30, 60, 120,
  300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400, 172800, 604800, 2592000];
const percent = (part) => `${(100 * Math.min(1, Math.max(0, part))).toFixed(3)}%`;

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
      .map((name) => h("li", null, h(`i.bar.${slug(name)}`), word(name).toLowerCase()))));
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
    const next = attempts[index + 1]?.began ?? (attempt.state === "Retry" ? elapsed(doc) : end);
    return [h(`i.bar.${slug(attempt.state)}`, span(attempt.began, end)), next > end && h("i.delay", span(end, next))];
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

// ---- Graph: tasks in layers, each after all that it needs; long arrows pass between the others.

const NODE = { height: 46, gap: 16, minWidth: 104, mapWidth: 132, maxWidth: 210 };
const PHONE = 600; // px
const MAX_LAYERS = 24; // from left to right
const MAX_NODES = 2000;
const MAX_NEEDS = 4; // of a task that are all drawn
const MAX_BENDS = 4000;
const NAME_FONT = "600 13px system-ui, sans-serif";
const canvas = document.createElement("canvas").getContext("2d");
const layouts = new Map(); // the last one: a run that goes on keeps it

function graph(doc, room) {
  const { tasks } = doc;
  if (tasks.length < 2) return null;
  if (tasks.length > MAX_NODES) {
    return section("graph", "Graph", h("p.aside", null, `${count(tasks.length, "task")} are too many to draw.`));
  }
  const key = JSON.stringify([room, tasks.map((task) => [task.name, task.needs])]);
  if (!layouts.has(key)) {
    layouts.clear();
    layouts.set(key, layout(tasks, room));
  }
  const { nodes, edges, width, height, nodeWidth } = layouts.get(key);
  const isIdle = (id) => [null, "Skipped"].includes(tasks[id].state);
  return section("graph", "Graph", scroller("Graph of the tasks",
    s("svg.graph", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": "Tasks" },
      s("marker", { id: "arrow", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto" },
        s("path", { d: "M0 .5 7.5 4 0 7.5Z" })),
      edges.map(({ target, d }) => s(`path.edge${isIdle(target) ? ".idle" : ""}`, { d, "marker-end": "url(#arrow)" })),
      tasks.map((task, index) => graphNode(task, doc, nodes[index], nodeWidth)))));
}

function graphNode(task, doc, [x, y], width) {
  const name = stateOf(task);
  const items = isMap(task) && count(task.count, "item");
  const seconds = duration(spent(task, doc));
  const text = name === "Completed" ? items || seconds : taskWord(name);
  const title = fit(task.name, width - 40, NAME_FONT);
  const line = fit(text, width - 40, "12px system-ui, sans-serif");
  const more = facts(title !== task.name && task.name, ...[taskWord(name), items, seconds].filter((each) => each !== text));
  const link = { href: `#task-${task.task_id}`, transform: `translate(${x} ${y})` };
  return s(`a.node.${slug(name)}`, link,
    s("title", null, [title, " ", line, more && `: ${more}`]), // what is read out begins with what is seen
    isMap(task) && s("rect", { x: 4, y: 4, width, height: NODE.height, rx: 8 }),
    s("rect", { width, height: NODE.height, rx: 8 }),
    s("g", { transform: "translate(11 8)" }, icon(name)),
    s("text.name", { x: 33, y: 20 }, title),
    s("text", { x: 33, y: 37 }, line));
}

function fit(text, width, font) {
  canvas.font = font;
  const clean = visible(text).slice(0, 200);
  if (canvas.measureText(clean).width <= width) return clean;
  let length = clean.length;
  while (length > 1 && canvas.measureText(`${clean.slice(0, length)}…`).width > width) length -= 1;
  return `${clean.slice(0, length)}…`;
}

function layout(tasks, room) {
  canvas.font = NAME_FONT;
  const longest = largest(tasks.map((task) => canvas.measureText(task.name.slice(0, 40)).width));
  const least = tasks.some(isMap) ? NODE.mapWidth : NODE.minWidth;
  const nodeWidth = Math.round(Math.min(NODE.maxWidth, Math.max(least, longest + 46)));
  const { layers, nodes } = layered(tasks);
  for (let round = 0; round < 6; round += 1) order(layers, round % 2 === 0);
  // From left to right; down where that fits on a phone, or is long.
  const breadth = largest(layers.map((layer) => layer.filter((node) => node.task).length));
  const gap = Math.min(60, Math.max(30, (room - layers.length * nodeWidth) / (layers.length - 1 || 1)));
  const isTooWide = layers.length * (nodeWidth + gap) - gap > room;
  const isLong = room < PHONE || layers.length > MAX_LAYERS;
  const isDown = isTooWide && isLong && breadth * (nodeWidth + NODE.gap) - NODE.gap <= room;
  const [thick, length] = isDown ? [nodeWidth, NODE.height] : [NODE.height, nodeWidth];
  const step = length + (isDown ? 36 : gap);
  const roomOf = (node) => (node.task ? thick : 8) + NODE.gap;
  for (let round = 0; round < 8; round += 1) place(layers, round % 2 === 0, roomOf);
  const all = layers.flat();
  const first = all.reduce((most, node) => Math.min(most, node.at), 0) - thick / 2 - 4;
  const most = largest(all.map((node) => node.at - first)) + thick / 2 + 8;
  const turn = (along, across) => (isDown ? [across, along] : [along, across]);
  const point = (node, isEnd) => turn(node.layer * step + (isEnd ? length : 0) + 4, node.at - first);
  const end = layers.length * step - step + length + 12;
  const [width, height] = turn(end, most);
  return {
    nodeWidth, width: Math.ceil(width), height: Math.ceil(height),
    nodes: nodes.map((node) => turn(node.layer * step + 4, node.at - first - thick / 2)),
    edges: nodes.flatMap((node) => node.paths.map((path) =>
      ({ target: node.task.task_id, d: curve(path, point, isDown) }))),
  };
}

// Returns the layers of nodes. An arrow over several layers has a bend, a node without a task, in each between.
function layered(tasks) {
  const layers = [];
  const enter = (node) => {
    (layers[node.layer] ??= []).push(node);
    return Object.assign(node, { before: [], after: [] });
  };
  const nodes = [];
  for (const task of tasks) {
    const layer = largest(task.needs.map((need) => nodes[need].layer + 1));
    nodes.push(enter({ task, layer, needs: directNeeds(task, tasks), paths: [] }));
  }
  const bends = sum(nodes.map((node) => sum(node.needs.map((need) => node.layer - nodes[need].layer - 1))));
  for (const node of nodes) {
    for (const need of node.needs) {
      const path = [nodes[need]];
      const end = bends > MAX_BENDS ? 0 : node.layer;
      for (let layer = nodes[need].layer + 1; layer < end; layer += 1) path.push(enter({ layer }));
      path.push(node);
      node.paths.push(path);
      path.slice(1).forEach((each, index) => {
        each.before.push(path[index]);
        path[index].after.push(each);
      });
    }
  }
  return { layers, nodes };
}

// Returns what a task needs; of many, only what none of the others needs already.
function directNeeds(task, tasks) {
  if (task.needs.length <= MAX_NEEDS) return task.needs;
  const indirect = new Set();
  const waiting = [...task.needs];
  while (waiting.length) {
    for (const need of tasks[waiting.pop()].needs) {
      if (!indirect.has(need)) waiting.push(need);
      indirect.add(need);
    }
  }
  return task.needs.filter((need) => !indirect.has(need));
}

const mean = (values) => (values.length ? sum(values) / values.length : null);

// Orders each layer by the mean position of the neighbours in the layer before or after.
function order(layers, isForward) {
  for (const layer of isForward ? layers : layers.toReversed()) {
    for (const [index, node] of layer.entries()) {
      node.weight = mean((isForward ? node.before : node.after).map((each) => each.index)) ?? node.index ?? index;
    }
    layer.sort((a, b) => a.weight - b.weight).forEach((node, index) => (node.index = index));
  }
}

// Moves each node as near as possible to the mean of its neighbours, without a change of order or an overlap: those
// that want the same room become a block, which takes the mean of what they want.
function place(layers, isForward, room) {
  for (const layer of isForward ? layers : layers.toReversed()) {
    const blocks = [];
    let offset = 0;
    for (const [index, node] of layer.entries()) {
      if (index) offset += (room(layer[index - 1]) + room(node)) / 2;
      const neighbours = [...node.before, ...node.after].map((each) => each.at).filter((at) => at !== undefined);
      blocks.push({ total: (mean(neighbours) ?? node.at ?? offset) - offset, members: [[node, offset]] });
      const edge = (block) => block.total / block.members.length;
      while (blocks.length > 1 && edge(blocks.at(-1)) < edge(blocks.at(-2))) {
        const { total, members } = blocks.pop();
        last(blocks).total += total;
        last(blocks).members.push(...members);
      }
    }
    for (const { total, members } of blocks) members.forEach(([node, at]) => (node.at = total / members.length + at));
  }
}

// Returns the path of an arrow: through the bends, it goes straight.
function curve(path, point, isDown) {
  const text = (...values) => values.map((value) => value.toFixed(1)).join(" ");
  return path.slice(1).map((node, index) => {
    const [x, y] = point(path[index], true);
    const [toX, toY] = point(node, false);
    const bend = isDown ? [x, (y + toY) / 2, toX, (y + toY) / 2] : [(x + toX) / 2, y, (x + toX) / 2, toY];
    return `${index ? "L" : "M"}${text(x, y)}C${text(...bend, toX, toY)}`;
  }).join("");
}

// ---- Tasks: a table whose rows open

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
    h("td.wide.value", null, isMap(task) ? countsText(task) : code(task.glimpse || error?.exception)));
}

const stateCount = ([name, amount]) => `${number(amount)} ${taskWord(name).toLowerCase()}`;
const countsText = (task) => Object.entries(task.counts).map(stateCount).join(", ");
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
      ["Items", isMap(task) && `${number(task.count)}: ${countsText(task)}`],
      ["Files", fileList(last(task.attempts))],
    ]),
    isMap(task) ? itemList(doc, task) : attemptList(doc, task, null, attempts))));
}

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
      ...usage(attempt),
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
    shown.map(({ item, attempts }) => h("details.item", { id: `item-${task.task_id}-${item}` },
      h("summary", null, icon(last(attempts).state), code(named(task, item)), given(attempts),
        last(last(attempts).errors)?.exception ?? last(attempts).state,
        h("span.aside", null, count(attempts.length, "attempt"))),
      attemptList(doc, task, item, attempts), fileList(last(attempts)))),
    shown.length < bad.length && moreButton(key, `Show all ${count(bad.length, "item")}`),
    unlistedItems(task) > 0 && h("p.aside", null, `and ${count(unlistedItems(task), "more item")} that failed`),
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
  const label = `Each dot is an item: when it began, and how long it took, up to ${duration(most)}`;
  return h("figure", null,
    s("svg.scatter", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": label },
      Object.entries(dots).map(([name, parts]) => s(`path.${name}`, { d: parts.join("") }))),
    h("figcaption.aside", null, `${label}. Squares failed. The slowest: `,
      slowest.map((item) => `#${item} ${duration(seconds[item])}`).join(", ")));
}

// ---- The end of the page

function runOutput(doc) {
  const own = (doc.output ?? []).filter((each) => each.task_id === -1 && each.size);
  return own.length > 0 && section("output", "Output of the run itself",
    own.map((each) => fold(size(each.size), false, outputBlock(each, "Output of the run"))));
}

function environment({ run }) {
  const { python, dotflow, system, packages, folder, argv, commit } = run.environment ?? {};
  const installed = Array.isArray(packages) ? packages : Object.entries(packages ?? {}).map((pair) => pair.join(" "));
  return section("environment", "Environment",
    terms([["Run", code(run.run_id)], ["Command", code([argv ?? []].flat().join(" "))], ["Folder", code(folder)],
      ["Commit", code(commit)],
      ["Process", code(run.process)], ["Storage", code(run.storage)], ["Python", code(python)],
      ["dotflow", code(dotflow)], ["System", code(system)], ["Trace", code(run.trace)]]),
    run.notes.length > 0 && h("ul.notes", null, run.notes.map((note) => h("li", null, time(note.at), " ", note.text))),
    installed.length > 0 && fold(count(installed.length, "package"), false,
      h("ul.packages", null, installed.map((each) => h("li", null, each)))));
}

const footer = (doc) =>
  h("footer", null, `dotflow ${doc.dotflow}, `, time(doc.made), ". Values of secrets are shown as ***.");

// ---- Views, and what a reader does

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

// ---- The pages of `dotflow ui`. Their objects are read again every second while they are visible.

const POLL = 1000; // milliseconds
const PER_PAGE = 100; // runs in the list
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
const baseOf = (id) => id.split("@")[0];
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
  return [runsView, `api/runs${searchOf({ ...filters(), limit: PER_PAGE })}`];
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
  await readOutputs();
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
  return [
    h("nav.top", { "aria-label": "dotflow" }, h("a.brand", { href: ROOT }, "dotflow"),
      h("a", { href: ROOT, "aria-current": here() === "" && "page" }, "Runs"), comparisonLink(doc?.commands)),
    h("div", { id: "notice", role: "status" },
      notice && h("p.notice", null, words(notice.text), !notice.isFinal && " This page tries again every second.")),
    doc ? route()[0](doc, room) : plainHeader(notice ? "Nothing to show" : "Reading …"),
  ];
}

function comparisonLink(commands) {
  const found = commands?.find((each) => each.command.startsWith("dotflow diff "));
  const [, a, b] = found?.command.match(/^dotflow diff (\w+) (\w+)/) ?? [];
  return a && h("a", { href: viewUrl("diff", { a, b }) }, found.purpose.replace("what differs from", "Compare with"));
}

// Returns a text in which `this` is code.
const words = (text) => text.split("`").map((part, index) => (index % 2 ? h("code", null, part) : part));

// ---- A run that may go on

function liveRun(doc, room) {
  for (const output of doc.output) Object.assign(output, live.outputs.get(outputKey(output))?.shown ?? UNREAD);
  return runView(doc, room);
}

const UNREAD = { parts: [], left_out: 0 };

// Shows what the attempts that run have printed so far.
function printing(doc) {
  const isRunning = ({ task_id, item }) => item === null ? doc.tasks[task_id]?.state === "Running"
    : doc.tasks[task_id].items?.states[doc.tasks[task_id].items.state[item]] === "Running";
  const outputs = doc.output?.filter((output) => doc.run.state === "Running" && isRunning(output)).slice(-MAX_PRINTING);
  return outputs?.length > 0 && section("printing", "Output so far", outputs.map((output) => {
    const name = named(doc.tasks[output.task_id], output.item);
    return h("div", { id: `printing-${outputKey(output)}` },
      h("p.aside", null, name, ", ", size(output.size)), outputBlock(output, `Output of ${name} so far`));
  }));
}

// Reads what is new of the outputs that can be seen.
async function readOutputs() {
  if (!state.doc?.run) return;
  const seen = new Set([...outputBlocks()].filter((block) => block.checkVisibility())
    .map((block) => block.dataset.output));
  const isOld = (output) => {
    const known = live.outputs.get(outputKey(output)) ?? { size: 0 };
    return known.size < output.size && !known.isAwaited;
  };
  const outputs = state.doc.output.filter((output) => seen.has(outputKey(output)) && isOld(output));
  await Promise.all(outputs.map(readOutput));
  if (outputs.length) redraw();
}

async function readOutput(output) {
  const key = outputKey(output);
  const known = live.outputs.get(key) ?? { size: 0, last: -1, shown: { ...UNREAD, parts: [] } };
  live.outputs.set(key, { ...known, isAwaited: true });
  const { task_id, item, attempt } = output;
  const path = `api/runs/${state.doc.run.run_id}/output`;
  const [status, , found] = await read(path + searchOf({ task: task_id, item, attempt, after: known.last }))
    .catch(() => [0]);
  if (status === 200) {
    found.output.forEach((each) => append(known.shown, each, known.last < 0));
    Object.assign(known, { size: output.size, last: found.last });
  }
  live.outputs.set(key, known);
}

function append(shown, { parts, left_out }, isFirst) {
  if (isFirst) shown.left_out = left_out;
  for (const part of parts) {
    const previous = last(shown.parts);
    if (previous?.stream === part.stream && !part.skipped) previous.text += part.text;
    else shown.parts.push(part);
  }
  for (let surplus = sum(shown.parts.map((part) => part.text.length)) - MAX_OUTPUT; surplus > 0;) {
    const [first] = shown.parts;
    const cut = Math.min(surplus, first.text.length);
    first.text = first.text.slice(cut);
    if (!first.text) shown.parts.shift();
    shown.left_out += cut;
    surplus -= cut;
  }
}

// ---- The list of runs

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
  if (!runs.length && !isFiltered) return [plainHeader("No runs yet"), noRuns(doc)];
  return [
    plainHeader("Runs", doc.history && h("ul.about", null, h("li", null, code(doc.history)))),
    workflowCards(doc),
    section("runs", given.before ? "Older runs" : "Latest runs", filterForm(doc, given), comparison(),
      runs.length > 0 ? runTable(runs) : h("p.empty", null, "No such runs. ", h("a", { href: ROOT }, "Show all"))),
    h("p.pages", null,
      given.before && h("a", { href: viewUrl("", { ...given, before: "" }) }, "Newest runs"),
      doc.has_more && h("a", { href: viewUrl("", { ...given, before: last(runs).began }) }, "Older runs")),
  ];
}

const plainHeader = (title, ...more) => h("header.plain", null, h("h1", null, h("span", null, title)), more);

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

const runTable = (runs) => h("div.table", { tabindex: 0, role: "region", "aria-label": "Table of the runs" },
  h("table", null,
    h("thead", null, h("tr", null, h("td"), RUN_COLUMNS.map(([name, kind]) =>
      h("th", { scope: "col", class: kind }, name)))),
    h("tbody", null, runs.map(runRow))));

function runRow(run) {
  const { run_id, workflow, completed, restored, tasks } = run;
  const params = workflow.slice(baseOf(workflow).length + 1);
  const others = tasks - completed - restored - run.failed - run.skipped;
  const counts = [["Completed", completed + restored], ["Failed", run.failed], ["Skipped", run.skipped],
    [run.state === "Running" ? "Running" : "Not started", others]].filter(([, amount]) => amount > 0);
  const isRunning = run.duration === null && run.state === "Running";
  const seconds = isRunning ? Math.floor((now() - Date.parse(run.began)) / 1000) : run.duration;
  const text = run.state + (run.state === "Queued" ? waitsFor(run) : run.ordered ? `, ${run.ordered} ordered` : "");
  return h("tr.run", { id: `run-${run_id}` },
    h("td", null, h("input", { type: "checkbox", "data-compare": run_id, "aria-label": `Compare ${short(run_id)}` })),
    h("th", { scope: "row" }, icon(run.state),
      h("a.run-link", { href: runUrl(run_id) }, run.name || baseOf(workflow) || "run"), " ",
      code(short(run_id), run_id), params && [" ", h("span.times", null, params)]),
    h("td.wide", null, h(`span.${slug(run.state)}`, null, text)),
    h("td", null, h("span.hidden.narrow", null, text, ", "), ago(run.began)),
    h("td.right", null, seconds !== null && lasted(run.state, seconds)),
    h("td.wide.progress", null, h("div", null, stateBar(counts), tasks > 0 && `${completed + restored} of ${tasks}`)),
    h("td.wide.value", { title: run.error || run.reason }, run.error || run.reason));
}

function ago(iso) {
  const seconds = Math.max(0, (now() - Date.parse(iso)) / 1000);
  const [unit, name] = UNITS.find(([least]) => seconds >= least) ?? [1, "s"];
  const text = seconds < 1 ? "now" : seconds > 7 * 86400 ? moments.format(new Date(iso))
    : `${Math.floor(seconds / unit)} ${name} ago`;
  return h("time", { datetime: iso, title: moments.format(new Date(iso)) }, text);
}

// ---- A workflow: its last runs and their tasks

function workflowView(doc) {
  const { runs, tasks, workflow_id } = doc;
  document.title = visible(`${workflow_id}: runs`);
  const counts = countStates(runs.map((run) => run.state)).map(stateCount).join(", ");
  const most = largest(runs.map((run) => run.duration ?? 0)) || 1;
  const [before, after] = runs.slice(-2);
  return [
    plainHeader(workflow_id, h("p.headline", null, runs.length ? [lastRuns(runs), counts] : "No runs.")),
    doc.params.map(byParam),
    runs.length > 0 && section("matrix", "Runs and tasks",
      scroller("Grid of runs and tasks", h("table.matrix", null,
        h("thead", null, h("tr", null, h("th", { scope: "col" }, "Task"), runs.map((run) => columnHead(run, most)))),
        h("tbody", null, tasks.map((task) => h("tr", null, h("th", { scope: "row" }, task.name),
          task.cells.map((cell, index) => matrixCell(task, cell, runs[index]))))))),
      h("p.aside", null, "The newest run is on the right; the bars are durations, up to ", duration(most), ".")),
    h("p.pages", null, h("a", { href: viewUrl("", { workflow: workflow_id }) }, "List these runs"),
      after && h("a", { href: viewUrl("diff", { a: before.run_id, b: after.run_id }) }, "Compare the last two")),
  ];
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

// ---- What differs between two runs

const KINDS = { run: "Run", environment: "Environment", package: "Packages", task: "Steps", code: "Code",
  state: "States", items: "Items", error: "Errors", value: "Values", duration: "Duration", cpu: "CPU time",
  memory: "Memory" };
const MEASURES = { duration, cpu: duration, memory: size };

function diffView(doc) {
  const { before, after, differences } = doc;
  document.title = `${short(before.run_id)} and ${short(after.run_id)}`;
  const groups = Map.groupBy(differences, (each) => each.kind);
  return [
    plainHeader("What differs", h("p.headline", null, differences.length ? count(differences.length, "difference")
      : "No differences.")),
    h("div.table", { id: "diff", tabindex: 0, role: "region", "aria-label": "Differences" }, h("table.diff", null,
      h("thead", null, h("tr", null, h("td"), [before, after].map((run) => h("th", { scope: "col" },
        h("a", { href: runUrl(run.run_id) }, titleOf(run)), " ", code(short(run.run_id)), h("br"),
        badge(run.state), " ", h("span.aside", null, time(run.began), run.duration !== null && ", ",
          lasted(run.state, run.duration)))))),
      [...groups].map(([kind, list]) => h("tbody", null,
        h("tr", null, h("th.kind", { colspan: 3, scope: "rowgroup" }, KINDS[kind] ?? kind)),
        list.map((each) => h("tr", null, h("th", { scope: "row" }, each.name),
          h("td", null, valueText(each, each.before)), h("td", null, valueText(each, each.after), change(each)))))))),
    h("p.pages", null, h("a", { href: viewUrl("diff", { a: after.run_id, b: before.run_id }) }, "The other way round")),
  ];
}

function valueText({ kind, name }, value) {
  if (isNothing(value)) return h("span.aside", null, "–");
  if (MEASURES[kind]) return MEASURES[kind](value);
  if (kind === "code") return code(value.split(":").pop().slice(0, 16), value);
  if (name === "argv") return code([value].flat().join(" "));
  if (kind === "state" && ICONS[value]) return badge(value);
  return code(typeof value === "string" ? value : JSON.stringify(value));
}

function change({ kind, before, after }) {
  const ratio = after / before;
  const part = Math.round(100 * (ratio - 1));
  const text = ratio >= 3 ? ` × ${number(Math.round(ratio))}` : ` ${part > 0 ? "+" : "−"}${Math.abs(part)} %`;
  return MEASURES[kind] && Number.isFinite(part) && h("span.aside", null, text);
}

// ---- What a reader does there

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
  const index = links.indexOf(document.activeElement);
  links[Math.min(links.length - 1, Math.max(0, index + step))]?.focus();
}

function start() {
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("button[data-filter]");
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
  document.addEventListener("keydown", onKey);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  poll();
}

if (embedded) show(runView, JSON.parse(embedded.textContent));
if (embedded && location.hash.startsWith("#task-")) openTask(location.hash.slice(1));
if (ROOT) start();
