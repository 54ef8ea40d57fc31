// What differs between two runs.

const KINDS = { run: "Run", environment: "Environment", package: "Packages", task: "Steps", code: "Code",
  state: "States", items: "Items", error: "Errors", note: "Notes", value: "Values", duration: "Duration",
  cpu: "CPU time", memory: "Memory" };
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
