// States: each has a word, an icon and a colour; these are in the order of a legend.

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
const stateCount = ([name, amount]) => `${number(amount)} ${taskWord(name).toLowerCase()}`;
