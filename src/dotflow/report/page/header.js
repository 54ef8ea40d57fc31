// The head of a page: title, headline and tiles.

function header(doc) {
  const { run } = doc;
  const title = titleOf(run);
  const { commit } = run.environment ?? {};
  const about = [
    hasBegun(run) ? ["began ", time(run.began)] : ["queued ", time(run.began)],
    ROOT && run.ended && [run.state === "Paused" ? "paused " : run.is_end_known ? "ended " : "last event ",
      ago(run.ended)],
    doc.last_completed && ["last completed ", (ROOT ? ago : time)(doc.last_completed.ended), " ",
      runLink(doc.last_completed.run_id)],
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
      run.workflow && (ROOT || title !== run.workflow) && [" of ", workflowLink(run)]),
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

const plainHeader = (title, ...more) => h("header.plain", null, h("h1", null, h("span", null, title)), more);

const titleOf = (run) => run.name || run.workflow || `run ${short(run.run_id)}`;

const workflowLink = (run) =>
  (ROOT && baseOf(run) ? h("a", { href: workflowUrl(baseOf(run)) }, code(run.workflow)) : code(run.workflow));

function tiles(doc) {
  const { run, tasks } = doc;
  if (!hasBegun(run)) return null;
  const maps = tasks.filter((task) => isMap(task) && !roundsOf(task));
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
