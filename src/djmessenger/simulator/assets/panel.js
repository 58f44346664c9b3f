// Side panel: callbacks, outcomes, Graph calls, rows and times of messages; and the switches.

import { clockTime, copy, dayAndTime, h, icon, refill, span, tool } from "./elements.js";
import { choice, field, showText } from "./tools.js";

const TABS = [["message", "Message"], ["traffic", "Traffic"], ["faults", "Faults"], ["clock", "Clock"], ["raw", "Raw"]];
const OPTIONS = { delay: ["seconds", 10], echo_late: ["seconds", 10], usage_headers: ["percent", 90], duplicate: ["copies", 2], token_dead: ["subcode", 463] };

export class Panel {
  constructor(root, element) {
    this.root = root;
    this.server = root.server;
    this.mid = "";
    this.pinned = "";
    this.tabs = TABS.map(([id, label]) => h("button", { type: "button", role: "tab", id: `tab-${id}`, "aria-controls": "djm-tab", onclick: () => this.show(id) }, label));
    const list = h("div", { class: "tabs", role: "tablist", "aria-label": "Behind the messages" }, this.tabs);
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const to = this.tabs[(this.tabs.indexOf(document.activeElement) + step + TABS.length) % TABS.length];
      this.show(to.id.slice(4));
      to.focus();
    });
    this.body = h("div", { class: "panel-body", role: "tabpanel", id: "djm-tab", tabindex: "0" });
    element.append(h("header", { class: "bar" }, list, tool("close", "Close", () => root.open(), { class: "tool close-panel" })), this.body);
    this.show("message");
  }

  focus() {
    this.tabs.find((one) => one.tabIndex === 0).focus();
  }

  show(tab) {
    this.tab = tab;
    for (const one of this.tabs) {
      const chosen = one.id === `tab-${tab}`;
      one.setAttribute("aria-selected", String(chosen));
      one.tabIndex = chosen ? 0 : -1;
    }
    this.body.setAttribute("aria-labelledby", `tab-${tab}`);
    this.body.scrollTop = 0;
    this[tab]();
  }

  changed() {
    if (this.tab === "traffic" && !this.one) this.traffic();
    else if (this.tab === "faults") this.markFaults();
    else if (this.tab === "message" && (this.mid || this.pinned)) this.load(this.pinned || this.mid);
    else if (this.tab === "message") this.message();
    else if (this.tab === "clock") this.markClock();
  }

  clear() {
    this.mid = this.pinned = "";
    if (this.tab === "message") this.message();
  }

  /** Show a message until another one is chosen. */
  look(mid) {
    if (this.pinned || mid === this.mid) return;
    this.mid = mid;
    if (this.tab === "message") this.load(mid);
  }

  pin(mid, stay) {
    this.pinned = this.pinned === mid && !stay ? "" : mid;
    this.mid = mid;
    for (const one of this.root.messages.querySelectorAll(".bubble.chosen")) one.classList.remove("chosen");
    if (this.pinned) this.root.messages.querySelector(`.bubble[data-mid="${CSS.escape(mid)}"]`)?.classList.add("chosen");
    if (this.tab === "message") this.load(mid);
  }

  async load(mid, newest) {
    try {
      const details = await this.server.get("details", { person: this.root.chosen, mid });
      if (this.tab === "message" && (newest ? "" : mid) === (this.pinned || this.mid)) this.draw(details);
    } catch (error) {
      if (this.tab === "message") refill(this.body, h("p", { class: "hint" }, error.message));
    }
  }

  message() {
    if (this.pinned || this.mid) {
      this.load(this.pinned || this.mid);
      return;
    }
    const thread = (this.root.state && this.root.state.screen && this.root.state.screen.thread) || [];
    if (thread.length) {
      this.load(thread.at(-1).mid, true);
      return;
    }
    refill(this.body, h("div", { class: "empty" }, icon("code"), h("p", {}, "Write a message. Then point at a message, or go to it with the arrow keys. This panel shows the callback, the outcome of the rules and the Graph calls.")));
  }

  // One message

  draw(details) {
    const key = JSON.stringify(details);
    if (key === this.drawnKey && this.body.querySelector(".details")) return;
    this.drawnKey = key;
    const open = new Map([...this.body.querySelectorAll("details[data-name]")].map((one) => [one.dataset.name, one.open]));
    const part = (name, note, ...kids) => h("details", { "data-name": name, open: open.get(name) ?? ["What the bot did", "Callback", "Graph calls", "Time"].includes(name) }, h("summary", {}, h("span", {}, name), note && h("small", {}, note)), ...kids);
    const { event, deliveries = [], calls = [], rows = [], times = [] } = details;
    const top = this.body.scrollTop;
    const bubble = ((this.root.state.screen || {}).thread || []).find((one) => one.mid === details.mid);
    const mark = bubble && bubble.by_page && `${bubble.read ? "Read" : bubble.delivered ? "Delivered" : "Sent"}: ${this.root.person.name}${bubble.notification_type === "REGULAR" ? "" : `, ${bubble.notification_type}`}`;
    refill(this.body, h("div", { class: "details" },
      mark && h("p", { class: "hint", dir: "auto" }, mark),
      event && part("What the bot did", `${event.type.toLowerCase().replaceAll("_", " ")}, ${event.state}`, this.outcome(event)),
      details.callback_state && details.callback_state.error && h("p", { class: "wrong" }, `Callback ${details.callback_state.state}: ${details.callback_state.error}`),
      deliveries.length ? part("Callback", deliveries.at(-1).error || `answered ${deliveries.at(-1).status}`, deliveries.map((one) => this.delivery(one, deliveries.length))) : null,
      part("Graph calls", String(calls.length), calls.length ? calls.map((one) => this.call(one)) : h("p", { class: "hint" }, "None.")),
      rows.length ? part("Rows written", String(rows.length), h("ul", { class: "rows" }, rows.map((row) => h("li", {}, row.url ? h("a", { href: row.url, target: "_blank", rel: "noopener" }, row.name) : h("span", {}, row.name), h("span", {}, row.says), row.note && h("small", {}, row.note))))) : null,
      times.length ? part("Time", `${Math.round(times.at(-1).at)} ms in all`, this.times(times)) : null));
    this.body.scrollTop = top;
  }

  outcome(event) {
    const tree = (nodes) => h("ul", {}, nodes.map((node) => h("li", { class: node.mark }, h("span", { class: "sign", role: "img", "aria-label": { yes: "passed", no: "did not pass", ran: "ran", error: "failed" }[node.mark] }, node.sign), h("span", { class: "grow" }, node.text, node.note && h("small", {}, node.note)), node.children.length ? tree(node.children) : null)));
    return h("div", {},
      h("p", { class: "summary" }, event.summary),
      event.reason && h("p", { class: "wrong" }, event.reason),
      event.troubles.map((text) => h("p", { class: "wrong" }, text)),
      h("div", { class: "tree" }, tree(event.nodes)),
      event.notes.map((note) => h("p", { class: "hint" }, note)),
      event.suggestion && [h("p", { class: "hint" }, "No rule applied. A rule to paste:"), this.code(event.suggestion, "Copy the rule")],
      event.error && h("pre", { class: "code wrong", tabindex: "0" }, event.error));
  }

  delivery(one, count) {
    return h("div", { class: "block" },
      h("p", { class: "way" }, h("b", {}, "POST"), `to your webhook at ${clockTime(one.time)}${count > 1 || one.attempt > 1 ? `, try ${one.attempt}` : ""}`, h("span", { class: one.status === 200 ? "good" : "bad" }, one.status === null ? "no answer" : one.status)),
      h("dl", { class: "headers" }, Object.entries(one.headers).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      this.code(one.body, "Copy as curl", one.curl));
  }

  call(one) {
    return h("div", { class: `block ${one.is_this ? "this" : ""}` },
      h("p", { class: "way" }, h("b", {}, one.method), h("span", { class: "path" }, one.path), h("span", { class: one.status === 200 ? "good" : "bad" }, one.status || "no answer")),
      one.error && h("p", { class: "wrong" }, one.error),
      one.fault && h("p", { class: "wrong" }, `The fault ${one.fault} changed this call.`),
      one.warnings.map((text) => h("p", { class: "hint" }, text)),
      one.body !== "{}" && this.code(one.body, "Copy as curl", one.curl),
      one.answer !== "null" && h("details", {}, h("summary", {}, h("span", {}, "Answer")), this.code(one.answer, "Copy")));
  }

  code(text, label, copied) {
    return h("div", { class: "code-box" }, h("pre", { class: "code", tabindex: "0" }, text), h("button", { type: "button", class: "copy", onclick: async () => this.root.say((await copy(copied || text)) ? "Copied." : "Copying is not allowed here.") }, icon("copy"), label));
  }

  times(times) {
    const all = Math.max(...times.map((one) => one.at), 1);
    return h("ol", { class: "times" }, times.map((one) => {
      const bar = h("i", {});
      bar.style.width = `${Math.max(1, (one.at / all) * 100)}%`;
      return h("li", {}, h("span", {}, one.what), h("b", {}, `${one.at} ms`), bar);
    }));
  }

  // All traffic

  async traffic() {
    this.one = false;
    let lines;
    try {
      ({ lines } = await this.server.get("traffic"));
    } catch (error) {
      return;
    }
    if (this.tab !== "traffic" || this.one) return;
    refill(this.body, lines.length ? h("ul", { class: "traffic" }, lines.map((line) => h("li", {}, h("button", { type: "button", onclick: () => this.open(line) },
      h("span", { class: `arrow ${line.way}`, role: "img", "aria-label": line.way === "call" ? "from the bot" : "to the bot" }, line.way === "call" ? "←" : "→"),
      h("span", { class: "grow" }, line.what.replace(/\/v[\d.]+/, "").replace(/ \/\d+\//, " /…/"), line.note && h("small", {}, line.note)),
      h("span", { class: line.ok ? "good" : "bad" }, line.status ?? "–"), h("time", {}, clockTime(line.time)))))) : h("p", { class: "hint" }, "No messages yet."));
  }

  async open(line) {
    this.one = true;
    const details = await this.server.get("details", { [line.way === "call" ? "call" : "delivery"]: line.number });
    this.draw(details);
    this.body.prepend(h("button", { type: "button", class: "copy", onclick: () => this.traffic() }, icon("back"), "All traffic"));
    this.body.querySelector("button").focus();
  }

  // Switches

  async faults() {
    this.known ||= (await this.server.get("catalogue")).faults;
    if (this.tab !== "faults") return;
    const group = (side, title) => h("fieldset", {}, h("legend", {}, title), this.known.filter((one) => one.side === side).map((one) => this.switch(one)));
    refill(this.body, h("p", { class: "hint" }, "A fault makes Meta, or the connection to Meta, fail until you switch it off. “Once” applies it to one call or callback."), h("button", { type: "button", class: "copy", onclick: () => this.root.perform("fault", { clear: true }) }, "Switch all off"), group("webhook", "Callbacks to the bot"), group("graph", "The bot's Graph calls"), this.personSwitches());
    this.markFaults();
  }

  switch({ name, meaning }) {
    const once = h("input", { type: "checkbox", "aria-label": `${name}: once` });
    const option = OPTIONS[name] && h("input", { type: "number", class: "number", value: OPTIONS[name][1], min: "0", "aria-label": `${name}: ${OPTIONS[name][0]}` });
    const on = h("input", { type: "checkbox", role: "switch", id: `fault-${name}`, "data-fault": name, onchange: (event) => this.root.perform("fault", { name, on: event.target.checked, ...(once.checked ? { times: 1 } : {}), ...(option ? { [OPTIONS[name][0]]: Number(option.value) } : {}), ...(name === "batch" ? { shape: "entries" } : {}) }) });
    return h("div", { class: "switch" }, on, h("label", { for: `fault-${name}` }, h("b", {}, name.replaceAll("_", " ")), h("small", {}, meaning)), option, h("label", { class: "once" }, once, "once"));
  }

  personSwitches() {
    const person = this.root.person;
    if (!person) return null;
    const set = (key) => (event) => this.root.perform("set", { person: person.id, [key]: event.target.checked });
    const row = (key, label, meaning) => h("div", { class: "switch" }, h("input", { type: "checkbox", role: "switch", id: `person-${key}`, "data-person": key, checked: person[key], onchange: set(key) }), h("label", { for: `person-${key}` }, h("b", {}, label), h("small", {}, meaning)));
    const owner = h("div", { class: "switch" }, h("input", { type: "checkbox", role: "switch", id: "person-owner", "data-person": "owner", checked: Boolean(person.owner), onchange: (event) => this.root.perform("set", { person: person.id, owner: event.target.checked ? "263902037430900" : "" }) }), h("label", { for: "person-owner" }, h("b", {}, "page inbox has the thread"), h("small", {}, "a human answers; the bot sees standby events")));
    return h("fieldset", {}, h("legend", { dir: "auto" }, person.name), row("online", "online", "reads at once, so read receipts follow"), row("blocked", "has blocked the Page", "Graph refuses every message with 551"), row("consented", "profile may be read", "after a message or Get Started"), owner);
  }

  markFaults() {
    const on = this.root.state.faults;
    for (const one of this.body.querySelectorAll("[data-fault]")) one.checked = on.includes(one.dataset.fault);
    for (const one of this.body.querySelectorAll("[data-person]")) one.checked = Boolean(this.root.person[one.dataset.person]);
  }

  // Clock

  clock() {
    const jump = (hours, label) => h("button", { type: "button", class: "chip", onclick: () => this.root.perform("clock", { hours }) }, label);
    const form = h("form", { class: "inline", onsubmit: (event) => {
      event.preventDefault();
      this.root.perform("clock", { hours: Number(form.elements.hours.value) });
    } }, field("Hours", "hours", { type: "number", value: "25", min: "0.01", step: "any", required: true }), h("button", { type: "submit", class: "main" }, "Move forward"));
    this.time = h("p", { class: "time" });
    this.left = h("p", { class: "hint" });
    refill(this.body, this.time, this.left, h("div", { class: "suggestions", role: "group", "aria-label": "Move the clock forward" }, jump(0.25, "15 minutes"), jump(1, "1 hour"), jump(23.9, "23.9 hours"), jump(25, "25 hours"), jump(168, "7 days")), form, h("p", { class: "hint" }, "The clock of Meta: it dates events, closes windows and ends retired features of Graph. The clock of the bot does not change."));
    this.markClock();
  }

  markClock() {
    const person = this.root.person;
    if (!person || !this.time) return;
    this.time.textContent = dayAndTime(this.root.now());
    const left = person.window === null ? null : person.window - this.root.now();
    this.left.textContent = left === null ? "No window yet: the person has not written." : left > 0 ? `The bot may answer ${person.name} for another ${span(left)}.` : `The window of ${person.name} is closed.`;
  }

  // Raw JSON, profile, export

  async raw() {
    this.samples ||= (await this.server.get("catalogue")).samples;
    if (this.tab !== "raw") return;
    const root = this.root;
    const area = h("textarea", { class: "code", rows: "14", spellcheck: "false", "aria-label": "Body of the callback", value: '{"object": "page", "entry": []}' });
    const select = choice("Sample", "sample", [["", "Choose one of the catalogue …"], ...this.samples.map((one) => [one, one.replaceAll("_", " ")])], "");
    select.querySelector("select").addEventListener("change", async (event) => {
      if (event.target.value) area.value = (await this.server.get("sample", { name: event.target.value, person: root.chosen })).body;
    });
    const profile = h("textarea", { class: "code", rows: "6", spellcheck: "false", "aria-label": "Properties of the Messenger Profile", value: '{"ice_breakers": [{"call_to_actions": [{"question": "Are you open now?", "payload": "HOURS"}], "locale": "default"}]}' });
    const setProfile = async () => {
      try {
        await root.perform("profile", { page: root.page.id, properties: JSON.parse(profile.value) });
      } catch (error) {
        root.say(`The text is no JSON: ${error.message}`, true);
      }
    };
    refill(this.body,
      h("h3", {}, "Send raw JSON"), h("p", { class: "hint" }, "Signed and posted to your webhook unchanged, even if it is no JSON."), select, area, h("button", { type: "button", class: "main", onclick: () => root.perform("raw", { page: root.page.id, body: area.value }) }, "Send"),
      h("h3", {}, "Export as test"), h("p", { class: "hint" }, "All conversations with this Page, as a test for djmessenger.testing."), h("button", { type: "button", class: "main", onclick: async () => showText(root, "The conversation as a test", (await this.server.get("export", { page: root.page.id })).source) }, "Export as test"),
      h("h3", {}, "Messenger Profile"), h("p", { class: "hint" }, "Greeting, ice breakers, menu: sent to Graph as a call of your bot."), profile, h("button", { type: "button", class: "main", onclick: setProfile }, "Set"));
  }
}
