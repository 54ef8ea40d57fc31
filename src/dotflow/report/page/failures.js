// What went wrong in a run: a card for each failure.

const MAX_FAILURES = 20;
const MAX_LINES = 14; // of the output
const MAX_ASKED = 10; // questions

function wrong(doc) {
  const { run } = doc;
  const failures = failuresOf(doc);
  const isStopped = ["Crashed", "Cancelled", "Interrupted", "Paused", "Unknown"].includes(run.state);
  if (!failures.length && ["Queued", "Running"].includes(run.state)) return shell(commandsOf(doc, null, null));
  if (!failures.length && !isStopped && run.state !== "Failed") return null;
  const title = { Unknown: "What is unknown", Paused: "Why it is paused", Completed: "What failed, as keep_going allows" }[run.state]
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
  if (run.questions?.length) {
    const others = run.questions.length - MAX_ASKED;
    return [run.questions.slice(0, MAX_ASKED).map((each) => h("span.question", null,
      badge("Paused", each.step), " asks: ", each.text, " ",
      h("span.aside", null, ROOT ? askedText(each) : each.until && ["until ", time(each.until)]))),
    others > 0 && h("span.question", null, `and ${count(others, "more question")}`)];
  }
  if (run.state !== "Crashed") {
    return [badge(run.state), " ", capital(run.reason || run.error || "no reason was recorded"), "."];
  }
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
    others.length > 0 && `${count(others.length, `more ${itemWord(task)}`)} failed in the same way: ${same}.`,
    isMap(task) && unlistedItems(task) > 0 && `${count(unlistedItems(task), `more ${itemWord(task)}`)} failed.`,
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
