// A run that may go on, and its output so far.

function liveRun(doc, room) {
  for (const output of doc.output) Object.assign(output, live.outputs.get(outputKey(output))?.shown ?? UNREAD);
  addCalls(doc);
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
