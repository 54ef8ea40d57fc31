// Parts that several sections use.

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
