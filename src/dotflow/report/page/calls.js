// The calls of a durable step: the last ones, and in `dotflow ui` those before them as a reader asks for them.

const CALL_BADGES = { Made: "Completed", Failed: "Failed", Running: "Running", "Cut off": "Interrupted", Cached: "Cached" };
const CALLS_READ = 50; // at once
const MAX_CALLS = 2000; // of a step that a page keeps

const keyOfCalls = (task, item) => `${task.task_id}/${item ?? ""}`;

function callList(task, item, calls) {
  if (!calls?.listed.length) return null;
  const { listed: shown, total } = calls;
  const gaps = shown.map((call, index) => (index ? call.number - shown[index - 1].number - 1 : 0));
  gaps[0] = total - shown.length - sum(gaps);
  const isRepeated = shown[0].attempt !== last(shown).attempt;
  return h("details.calls", { open: true, id: `calls-${keyOfCalls(task, item)}` },
    h("summary", null, count(total, "call")),
    h("ol", null, shown.map((call, index) => [
      gaps[index] > 0 && earlierCalls(task, item, call.number, gaps[index], shown.length >= MAX_CALLS),
      callRow(task, item, call, isRepeated)])));
}

function callRow(task, item, call, isRepeated) {
  const { number: nth, state: kind, error } = call;
  const text = error ? [error.exception, error.message].filter(Boolean).join(": ") : call.glimpse;
  return h("li", { id: `call-${keyOfCalls(task, item)}-${nth}`, style: { "--depth": Math.min(call.depth, 8) } },
    h("span.number", null, nth),
    h("div", null, code(`${call.name}(${call.arguments})`),
      text && h("p", null, code(text.length > MAX_MESSAGE ? `${text.slice(0, MAX_MESSAGE)} …` : text)),
      error?.traceback && fold("Traceback", false,
        tracebackBlock(error.traceback, `Traceback of call ${nth} of ${named(task, item)}`))),
    h("div", null, badge(CALL_BADGES[kind] ?? "Unknown", kind.toLowerCase()),
      h("span.aside", null, facts(duration(call.duration), isRepeated && `attempt ${call.attempt}`))));
}

// Stands for the calls right before one that are not shown.
function earlierCalls(task, item, before, amount, isFull) {
  const key = keyOfCalls(task, item);
  const words = count(amount, "earlier call");
  if (embedded || isFull) return h("li.aside", null, words, ", which ", code("dotflow show --all"), " lists");
  if (callsRead.steps.get(key)?.missing.has(before)) return h("li.aside", null, words, ", of which there is no row");
  return h("li", { id: `before-${key}-${before}` },
    h("button.more", { type: "button", "data-calls": key, "data-before": before },
      amount > CALLS_READ ? `Show ${CALLS_READ} of ${words}` : `Show ${words}`));
}

// What `dotflow ui` has read: of each step that is open all calls that it has seen, by number.
const callsRead = { run: "", steps: new Map() };

function stepOfCalls(key) {
  if (!callsRead.steps.has(key)) callsRead.steps.set(key, { known: new Map(), missing: new Set(), isAwaited: false });
  return callsRead.steps.get(key);
}

// Adds to a document the calls that were read before. Those that it has are newer.
function addCalls(doc) {
  if (callsRead.run !== doc.run.run_id) Object.assign(callsRead, { run: doc.run.run_id, steps: new Map() });
  for (const task of doc.tasks.filter((each) => state.open.has(`task-${each.task_id}`))) {
    for (const part of [{ item: null, calls: task.calls }, ...task.details]) {
      if (part.calls) addCallsOf(stepOfCalls(keyOfCalls(task, part.item)), part.calls);
    }
  }
}

function addCallsOf(step, calls) {
  calls.newest ??= calls.listed; // the same document may be drawn again
  calls.newest.forEach((call) => step.known.set(call.number, call));
  const numbers = [...step.known.keys()].sort((a, b) => a - b);
  numbers.splice(0, numbers.length - MAX_CALLS).forEach((each) => step.known.delete(each));
  step.newest = calls.newest[0].number; // those from here on come with the next document
  calls.listed = numbers.map((each) => step.known.get(each));
}

async function readCalls(key, before) {
  const step = stepOfCalls(key);
  if (step.isAwaited) return;
  step.isAwaited = true;
  const [task, item] = key.split("/");
  const path = `api/runs/${callsRead.run}/calls${searchOf({ task, item, before, limit: CALLS_READ })}`;
  const [status, , found] = await read(path).catch(() => [0]);
  step.isAwaited = false;
  if (status !== 200) return;
  found.calls.forEach((call) => step.known.set(call.number, call));
  if (last(found.calls)?.number !== before - 1) step.missing.add(before);
  redraw();
}

// Reads calls again that ran when they were read, and are not among the newest ones.
async function readRunningCalls() {
  for (const [key, { known, newest }] of callsRead.steps) {
    const running = [...known.values()].filter((each) => each.state === "Running" && each.number < newest);
    if (running.length) await readCalls(key, largest(running.map((each) => each.number)) + 1);
  }
}
