// What needs a person, and what begins next: the list of runs opens on them.

const verb = (amount, [one, many]) => `${number(amount)} ${amount === 1 ? one : many}`;
const askedText = ({ asked, until }) => [ago(asked),
  until && [", ", h("time", { datetime: until, title: until }, `${spanText((Date.parse(until) - now()) / 1000)} left`)]];
const workflowOf = (id) => h("a", { href: workflowUrl(id) }, id);

// Kinds of what needs a person: the icon, the words for a number of them, a row, and where all of them are.
const NEEDS = {
  waiting: {
    icon: "Paused",
    words: ["waits for an answer", "wait for an answer"],
    row: (each) => [needsLink(each.run_id, each.workflow), [h("b", null, each.step), " asks: ", each.text],
      askedText(each)],
    all: { state: "paused" },
  },
  failed: {
    icon: "Failed",
    words: ["failed, and has not run again", "failed, and have not run again"],
    row: (run) => [needsLink(run.run_id, run.workflow), run.error || run.reason || run.state,
      ago(run.ended ?? run.began)],
    all: { state: "failed,crashed" },
  },
  late: {
    icon: "Missing",
    words: ["is late", "are late"],
    row: (each) => [each.workflow ? workflowOf(each.workflow) : "schedules",
      [each.planned && ["that of ", time(each.planned), " "], each.run_id && [runLink(each.run_id), " "], each.why,
        each.more > 0 && `, and ${number(each.more)} before it`], each.planned && ago(each.planned)],
  },
  unserved: {
    icon: "Unknown",
    words: ["workflow is served by no process", "workflows are served by no process"],
    row: (each) => [workflowOf(each.workflow), facts(each.runs > 0 && `${count(each.runs, "run")} in the queue`,
      each.schedules > 0 && count(each.schedules, "schedule"), "start `dotflow serve`"), each.since && ago(each.since)],
  },
};

const needsLink = (id, workflow) =>
  [h("a.run-link", { href: runUrl(id) }, workflow || "run"), " ", code(short(id), id)];

const needsText = (attention) => Object.entries(NEEDS).filter(([name]) => attention[name].count)
  .map(([name, { words: texts }]) => verb(attention[name].count, texts)).join("; ");

function attentionList({ attention }) {
  const kinds = Object.entries(NEEDS).filter(([name]) => attention?.[name].count);
  return kinds.length > 0 && section("attention", "What needs attention", kinds.map(([name, kind]) => {
    const { count: amount, shown } = attention[name];
    return h(`div.needs.${slug(kind.icon)}`, { id: `needs-${name}` },
      h("h3", null, icon(kind.icon), verb(amount, kind.words)),
      h("ul", null, shown.map((each) => {
        const [what, text, when] = kind.row(each);
        const shownText = typeof text === "string" ? words(text) : text;
        return h("li", null, h("span.what", null, what), h("span.text", null, shownText), h("span.when", null, when));
      })),
      amount > shown.length && h("p.aside", null, `and ${number(amount - shown.length)} more`,
        kind.all && [": ", h("a", { href: viewUrl("", kind.all) }, "show all")]));
  }));
}

// The runs that begin next; nothing of them has a duration yet.
function queueList({ queue }) {
  if (!queue?.count) return null;
  const others = queue.count - queue.runs.length;
  return section("queue", "Begins next", runTable(queue.runs, "Table of the queue"),
    others > 0 && h("p.aside", null, `and ${number(others)} more in the queue: `,
      h("a", { href: viewUrl("", { state: "queued" }) }, "show all")));
}
