// What the tasks of a run amount to, in numbers and words.

const stateOf = (task) => task.state ?? "Not started";
const isMap = (task) => task.count !== null;
const roundsOf = (task) => (isMap(task) ? task.policy.repeat ?? 0 : 0); // how many there are at most
const itemWord = (task) => (roundsOf(task) ? "round" : "item");
const amountText = (task) => (roundsOf(task) ? `at most ${count(roundsOf(task), "round")}` : count(task.count, "item"));
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

const isTolerated = (task) => task.state === "Completed" && task.counts.Failed > 0; // as its keep_going allows
const hasFailed = (task) => task.state === "Failed" || isTolerated(task) || (task.state === "Running" && task.counts.Failed > 0);

// Whether a run went on with the other items of a map. A round that failed, or in which an item did, is the last one.
const wentOn = (doc, task) => isMap(task) && !roundsOf(task) && !task.items.round && task.counts.Completed > 0 && (task.state === "Running" || isTolerated(task) ||
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
      if (causes.has(cause)) causes.get(cause).others.push(`${task.levels?.length ? named(task, item) : `#${item}`} ${last(attempts).input}`.trim());
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

const MAX_CAUSE = 160; // characters of a message in the headline

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
    : run.state in outcomes ? outcomes[run.state] : capital(run.reason || run.error || "it was stopped");
  const ordered = run.ordered && `It was ordered to ${run.ordered}`;
  const rest = idle.length > 0 && run.state !== "Running" && `${listed(idle, 3)} did not start`;
  const paused = run.state === "Paused" && tasks.filter((task) => task.state === "Paused" && task.glimpse)
    .map((task) => `${task.name} ${task.glimpse}`).slice(0, 2).join("; ");
  const silent = run.silence > 0 && `Its process gave no sign of life for ${Math.round(run.silence)} s`;
  const texts = [paused || outcome, silent, ordered, failures, rest].filter(Boolean);
  return texts.map((text) => `${text}.`.replace("?.", "?")).join(" ");
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
  return map ? `: ${number(doneItems(map))} of ${amountText(map)} completed` : "";
}

function slowestText(tasks) {
  const [first] = tasks.filter((task) => task.duration).sort((a, b) => b.duration - a.duration);
  return first && tasks.length > 1 && `All completed; ${first.name} took the longest, ${duration(first.duration)}`;
}

function failureText(task) {
  const allowed = isTolerated(task) ? ", as keep_going allows" : "";
  if (task.counts.Failed) return `${count(task.counts.Failed, itemWord(task))} of ${task.name} failed${allowed}`;
  const error = last(last(task.attempts).errors);
  const attempts = task.attempts.length > 1 ? ` after ${task.attempts.length} attempts` : "";
  const [message] = (error?.message ?? "").trim().split("\n");
  const cause = message.length > MAX_CAUSE ? `${message.slice(0, MAX_CAUSE)} …` : message.replace(/\.$/, "");
  return `${task.name} failed${attempts}${error ? `: ${error.exception}${cause && `: ${cause}`}` : ""}`;
}
