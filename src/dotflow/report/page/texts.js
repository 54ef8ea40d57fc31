// Texts: numbers, durations, sizes and moments.

const grouped = new Intl.NumberFormat("en");
const moments = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const measured = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const numberText = (value) => (Number.isInteger(value) ? grouped : measured).format(value);
const number = (value) => grouped.format(value);
const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const short = (id) => id.slice(0, 8);
const percent = (part) => `${(100 * Math.min(1, Math.max(0, part))).toFixed(3)}%`;
const last = (list) => list[list.length - 1];
const sum = (values) => values.reduce((total, value) => total + value, 0);
const largest = (values) => values.reduce((most, value) => (value > most ? value : most), 0); // of any number of them
const facts = (...parts) => parts.filter((part) => !isNothing(part)).join(" · ");
// The name of an item: `page[3].fetch[7]` where it has two indices, or else with its number among all of the task.
const named = (task, item) => {
  const [outer, nth] = item === null ? [] : [task.items?.round?.[item], task.items?.nth?.[item]];
  if (task.levels?.length !== 2 || isNothing(outer) || isNothing(nth)) return item === null ? task.name : `${task.name}#${item}`;
  const [first, second] = task.levels;
  return `${first}[${outer}]${second.slice(first.length)}[${nth}]${task.name.slice(second.length)}`;
};
const given = (attempts) => [
  last(attempts)?.input && h("span.aside", null, code(last(attempts).input)),
  !isNothing(last(attempts)?.round) && isNothing(last(attempts).nth) && h("span.aside", null, `round ${last(attempts).round}`),
];
const time = (iso) => iso && h("time", { datetime: iso, title: iso }, moments.format(new Date(iso)));

function listed(words, most = words.length) {
  const shown = words.length > most ? [...words.slice(0, most - 1), `${words.length - most + 1} more`] : words;
  return shown.length < 2 ? shown.join("") : `${shown.slice(0, -1).join(", ")} and ${last(shown)}`;
}

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function duration(seconds) {
  if (isNothing(seconds)) return "";
  if (seconds < 59.95 && Number.isInteger(seconds)) return `${seconds} s`;
  if (seconds < 0.9995) return seconds < 0.00095 ? "< 1 ms" : `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(seconds < 9.995 ? 2 : 1)} s`;
  let left = Math.round(seconds);
  const parts = UNITS.map(([unit, name]) => {
    const amount = Math.floor(left / unit);
    left -= amount * unit;
    return amount && `${amount} ${name}`;
  });
  const first = parts.findIndex(Boolean);
  return parts.slice(first, first + 2).filter(Boolean).join(" ");
}

// Returns a duration in its largest unit.
function spanText(seconds) {
  const [unit, name] = UNITS.find(([least]) => seconds >= least) ?? [1, "s"];
  return `${Math.max(0, Math.floor(seconds / unit))} ${name}`;
}

function size(bytes) {
  if (isNothing(bytes)) return "";
  const [factor, unit] = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]].find(([least]) => bytes >= least) ?? [1, "B"];
  return `${(bytes / factor).toFixed(bytes < 10 * factor && factor > 1 ? 1 : 0)} ${unit}`;
}
