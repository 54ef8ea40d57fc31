// Buttons: what a reader may order. Each says what it will do, asks once, and shows the answer in words.

const MAX_QUESTIONS = 3; // in the bar

const orders = {
  by: null, // the name of a reader who may give orders
  asking: null, // the button that was pressed, as it was then
  answer: null, // to the last order
  isSending: false,
};

async function readName() {
  try {
    const [, , { by }] = await read("api/me");
    orders.by = by ?? null;
  } catch {
    orders.by = null; // the page says by itself that the server can't be reached
  }
}

// Returns what else waits for an answer, on every page.
function waitingBar({ waiting = [], waiting_count: count = 0, attention, run }) {
  const others = waiting.filter((each) => each.run_id !== run?.run_id);
  const all = attention ? 0 : count - waiting.length + others.length; // the page itself has them
  const shown = others.slice(0, MAX_QUESTIONS);
  return all > 0 && h("section.waiting", { "aria-label": "Waiting for an answer" }, icon("Paused"),
    h("p", null, h("b", null, `${number(all)} ${all === 1 ? "waits" : "wait"} for an answer`)),
    h("ul", null, shown.map(({ run_id, workflow, text, asked }) => h("li", null,
      h("a", { href: runUrl(run_id) }, text), " ", h("span.aside", null, workflow, ", ", ago(asked)))),
    all > shown.length && h("li", null,
      h("a", { href: viewUrl("", { state: "queued,paused" }) }, `and ${number(all - shown.length)} more`))));
}

const keyOf = ({ path, sends }) => [path, sends.step, sends.nth].join(" ");

// Whether it is what the page is opened for.
const isMain = ({ path, grey }) => /^runs\/.*\/(approve|resume)$/.test(path) && !grey;

// Returns the buttons of a page. Those that can't be pressed now say why, and what to type instead.
function orderBar(doc) {
  const { asking, answer } = orders;
  const given = (orders.by !== null && doc.buttons) || [];
  const reasons = Map.groupBy(given.filter((each) => each.grey), (each) => each.grey);
  const ids = new Map([...reasons.keys()].map((reason, index) => [reason, `grey-${index}`]));
  // A newer button that would do the same is as good as the one that was pressed.
  const same = asking && given.find((each) => keyOf(each) === keyOf(asking) && each.says === asking.says);
  if (same) asking.sends = same.sends;
  return [
    given.length > 0 && h("section.orders", { id: "orders", "aria-label": "Orders" },
      h("div.buttons", null, given.map((each) => h(isMain(each) ? "button.yes" : "button", { type: "button", "data-order": keyOf(each),
        "aria-disabled": each.grey ? "true" : null, "aria-describedby": ids.get(each.grey),
        "aria-expanded": each.grey ? null : String(asking !== null && keyOf(asking) === keyOf(each)) }, each.label))),
      [...reasons].map(([reason, grey]) => h("p.aside", { id: ids.get(reason) },
        h("b", null, `${listed(grey.map((each) => each.label))}: `), words(reason)))),
    asking && askingForm(asking),
    (given.length > 0 || answer) && h("div", { id: "answer", tabindex: -1, role: answer?.isBad ? "alert" : "status" },
      answer && h(`p.answer${answer.isBad ? ".failed" : ".completed"}`, null,
        h("span.aside", null, new Date(answer.at).toLocaleTimeString("en-GB")), " ", words(answer.text))),
  ];
}

const askingForm = ({ label, says, fields }) => h("form.ask", { id: "ask", "aria-labelledby": "ask-says" },
  h("p", { id: "ask-says" }, h("b", null, `${label}? `), words(says)),
  fields.map(({ name, label: text, value }) => h("label", null, text,
    h("input", { name, value, autocomplete: "off", spellcheck: "false" }))),
  h("div.buttons", null,
    h("button.yes", { type: "submit", disabled: orders.isSending && "disabled" },
      orders.isSending ? "Sending …" : label),
    h("button", { type: "button", "data-order": "" }, "Leave it")));

// Asks before an order is sent; without a button, it asks no more.
function ask(button) {
  const before = orders.asking;
  const click = [...crypto.getRandomValues(new Uint8Array(16))].join("-"); // tells a double click from two orders
  orders.asking = button ? { ...button, click } : null;
  orders.answer = null;
  redraw();
  if (button) document.querySelector("#ask input, #ask button").focus();
  else if (before) document.querySelector(`[data-order="${CSS.escape(keyOf(before))}"]`)?.focus();
}

// Returns the body of an order, with what was filled in. Throws a SyntaxError for a value that is no JSON.
function bodyOf({ fields, sends, click }, form) {
  const body = { ...sends, click };
  const texts = [...form.querySelectorAll("input")].map((input) => input.value);
  fields.forEach(({ name, kind }, index) => {
    if (kind === "param") body.params = { ...body.params, [name]: texts[index] };
    else if (kind !== "json") body[name] = texts[index];
    else if (texts[index].trim()) body[name] = JSON.parse(texts[index]);
  });
  return JSON.stringify(body);
}

const answered = (text, isBad) => (orders.answer = { text, isBad, at: Date.now() });

async function sendOrder(form) {
  const { asking } = orders;
  if (orders.isSending || !asking) return;
  let body;
  try {
    body = bodyOf(asking, form);
  } catch {
    answered("The value is no JSON. Put a text in quotes: \"yes\".", true);
    redraw();
    return;
  }
  orders.isSending = true;
  redraw();
  try {
    const headers = { "Content-Type": "application/json", "X-Dotflow": "1" };
    const response = await fetch(`${ROOT}api/${asking.path}`, { method: "POST", headers, body });
    const { text, error } = await response.json();
    answered(text ?? error, !response.ok);
    if (response.ok || response.status === 409) orders.asking = null;
    if (response.status === 403) await readName();
  } catch {
    answered("There was no answer, so what became of the order is not known. Look before you try again.", true);
  }
  orders.isSending = false;
  await refresh();
  if (!orders.asking) document.getElementById("answer")?.focus();
}

function listenToButtons() {
  document.addEventListener("click", ({ target }) => {
    const pressed = target.closest("[data-order]");
    if (!pressed || pressed.getAttribute("aria-disabled")) return;
    const button = state.doc.buttons?.find((each) => keyOf(each) === pressed.dataset.order);
    const isOpen = button && orders.asking && keyOf(orders.asking) === keyOf(button);
    ask(isOpen ? null : button);
  });
  document.addEventListener("keydown", ({ key }) => key === "Escape" && orders.asking && ask(null));
  document.addEventListener("submit", ({ target }) => target.id === "ask" && sendOrder(target));
}
