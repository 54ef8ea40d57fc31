// Graph: tasks in layers, each after all that it needs; long arrows pass between the others.

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
  const items = isMap(task) && count(task.count, itemWord(task));
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
