// The page: conversations at the left, the chat in the middle, the side panel at the right.

import { STICKERS, content, face, inShort, reactions } from "./bubbles.js";
import { Server, avatar, dayAndTime, clockTime, copy, h, icon, put, refill, span, tool } from "./elements.js";
import { Panel } from "./panel.js";
import { addPage, addPerson, ask, sendLocation } from "./tools.js";

const EMOJI = [..."😀😂🥰😍😎🤔😴😭😡🥳😅🙃😉😋🤗🤩😇🙄😬🤯👍👎👏🙏💪👋🤝✌👀💙🔥🎉🎂☕🍕🥐🌞⭐🌈🐱🐶🌷🚲🏠"].map((one) => (/^[✌☕⭐]$/.test(one) ? `${one}\ufe0f` : one));
const FACES = [["❤️", "Love"], ["😆", "Laugh"], ["😮", "Wow"], ["😢", "Sad"], ["😠", "Angry"], ["👍", "Like"], ["👎", "Dislike"]];
const CALM = 700;
const QUICK = 150;
const GAP = 3600;

class Simulator extends HTMLElement {
  connectedCallback() {
    this.server = new Server(this.dataset.base, this.dataset.csrf);
    this.chosen = sessionStorage.getItem("djm-person") || "";
    this.drawn = new Map();
    this.version = "";
    this.ahead = 0;
    this.replyTo = "";
    this.editing = "";
    this.build();
    this.panel = new Panel(this, this.behind);
    this.poll();
    setInterval(() => this.tick(), 1000);
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
  }

  disconnectedCallback() {
    clearTimeout(this.timer);
  }

  // The frame

  build() {
    this.list = h("div", { class: "list" });
    this.people = h("nav", { class: "people", "aria-label": "Conversations" },
      h("header", { class: "bar" }, h("h1", {}, "Chats"),
        tool("user", "Add a person", () => addPerson(this)), tool("page", "Add a Page", () => addPage(this)), tool("restart", "Start again", () => this.restart())),
      this.list);
    this.who = h("div", { class: "who" });
    this.window_ = h("button", { type: "button", class: "window", "aria-label": "The window", onclick: () => this.open("clock") });
    this.toggle = tool("bug", "Behind the messages", () => this.open(), { "aria-expanded": "false" });
    this.intro = h("div", { class: "intro" });
    this.messages = h("ol", { class: "messages" });
    this.typing = h("div", { class: "typing-row", hidden: true }, avatar("", "", "tiny page"), h("span", { class: "typing", role: "img", "aria-label": "is typing" }, h("i", {}), h("i", {}), h("i", {})));
    this.thread = h("div", { class: "thread", role: "log", "aria-label": "Messages", "aria-live": "polite", tabindex: "0" }, this.intro, this.messages, this.typing);
    this.thread.addEventListener("keydown", (event) => this.walk(event));
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Quick answers" });
    this.notice = h("div", { class: "notice", role: "status" });
    this.secret = this.offer();
    this.chat = h("main", { class: "chat" },
      h("header", { class: "bar" }, tool("back", "All conversations", () => this.view("people"), { class: "tool to-people" }), this.who, this.window_, this.toggle),
      this.secret, this.thread, this.notice, this.chips, this.composer());
    this.behind = h("aside", { class: "panel", "aria-label": "Behind the messages" });
    this.app = h("div", { class: "app", "data-view": "chat" }, this.people, this.chat, this.behind);
    this.append(this.app);
    if (matchMedia("(min-width: 1100px)").matches) this.open(undefined, true);
  }

  /** A note about a real app secret, with the line of settings that makes one up instead. */
  offer() {
    const line = 'DJM_APP_SECRET = ""';
    return h("div", { class: "offer", role: "note", hidden: true },
      h("p", {}, "These settings hold a real app secret. It signs only events of simulated persons, and no signature is shown. For development, empty it: DEBUG then makes one up."),
      h("button", { type: "button", onclick: async () => this.say((await copy(line)) ? `Copied: ${line}` : `Write ${line} into the settings.`) }, "Use a made-up secret"));
  }

  composer() {
    this.field = h("textarea", { rows: "1", "aria-label": "Message", placeholder: "Aa", enterkeyhint: "send", dir: "auto" });
    this.field.addEventListener("input", () => this.grow());
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.submit();
      } else if (event.key === "Escape") this.forget();
    });
    this.about = h("div", { class: "about", hidden: true });
    this.menu = tool("menu", "Menu", () => {}, { "aria-haspopup": "true", hidden: true });
    this.picker = h("input", { type: "file", class: "visually-hidden", tabindex: "-1", "aria-hidden": "true" });
    this.picker.addEventListener("change", () => this.send_file(this.picker.files[0]));
    const pick = (accept) => () => {
      this.picker.accept = accept;
      this.picker.click();
    };
    this.voice = tool("mic", "Voice message", () => this.record());
    const more = tool("add", "More", () => {}, { class: "tool more", "aria-haspopup": "true" });
    const stickers = tool("sticker", "Stickers", () => {}, { "aria-haspopup": "true" });
    const emoji = tool("face", "Emoji", () => {}, { class: "tool inside", "aria-haspopup": "true" });
    const file = tool("file", "File", pick(""));
    const place = tool("pin", "Location", () => sendLocation(this));
    const image = tool("image", "Picture", pick("image/*"));
    this.popover(this.menu, "Menu", () => this.menuItems());
    this.popover(emoji, "Emoji", () => h("div", { class: "palette" }, EMOJI.map((one) => h("button", { type: "button", "aria-label": one, onclick: () => this.insert(one) }, one))));
    this.popover(stickers, "Stickers", () => h("div", { class: "palette large" }, STICKERS.map(([id, glyph, name], n) => h("button", { type: "button", class: `size-${n}`, "aria-label": name, onclick: () => this.act("sends_sticker", [Number(id)]) }, n < 3 ? icon("thumb") : glyph))));
    this.popover(more, "More", () => h("div", { class: "choices" }, [["Picture", pick("image/*"), "narrow"], ["File", pick(""), "narrow"], ["Voice message", () => this.record(), "narrow"], ["Location", () => sendLocation(this), "narrow"], ["Link", () => this.form("shareLink")], ["Come by an m.me link", () => this.form("openLink")]].map(([name, go, more]) => h("button", { type: "button", class: more, onclick: go }, name))));
    this.go = h("button", { type: "submit", class: "tool go", "aria-label": "Send a thumb", title: "Send a thumb" }, icon("thumb"));
    const form = h("form", { class: "composer", onsubmit: (event) => {
      event.preventDefault();
      this.submit();
    } }, this.about, h("div", { class: "row" }, this.menu, more, h("span", { class: "wide" }, image, file, this.voice, place), stickers, h("span", { class: "field" }, this.field, emoji), this.go), this.picker);
    return form;
  }

  /** A small window above its button; Escape and a click elsewhere close it. */
  popover(button, label, fill) {
    const box = h("div", { class: "popover", popover: "auto", role: "dialog", "aria-label": label });
    this.append(box);
    button.popoverTargetElement = box;
    box.addEventListener("beforetoggle", (event) => {
      if (event.newState !== "open") return;
      refill(box, fill());
      const at = button.getBoundingClientRect();
      box.style.left = `${Math.max(8, Math.min(at.left - 8, innerWidth - 300))}px`;
      box.style.bottom = `${innerHeight - at.top + 8}px`;
    });
    box.addEventListener("toggle", (event) => {
      const first = box.querySelector("button, a");
      if (event.newState === "open" && first) first.focus();
    });
    box.addEventListener("click", (event) => {
      if (event.target.closest("button, a") && label !== "Emoji") box.hidePopover();
    });
  }

  view(name) {
    this.app.dataset.view = name;
    if (name === "people") (this.list.querySelector("[aria-current]") || this.list.querySelector("button") || this.list).focus();
    if (name === "chat") {
      this.grow();
      this.field.focus({ preventScroll: true });
    }
  }

  async form(name, given) {
    (await import("./forms.js"))[name](this, given);
  }

  /** Open the panel at a tab, or close it. */
  open(tab, quiet) {
    const wanted = tab ? true : !this.app.classList.contains("with-panel");
    this.app.classList.toggle("with-panel", wanted);
    this.toggle.setAttribute("aria-expanded", String(wanted));
    if (tab) this.panel.show(tab);
    else if (wanted && !quiet) this.panel.focus();
    else if (!wanted && !quiet) this.toggle.focus();
  }

  // State

  hurry() {
    this.busy_until = Date.now() + 5000;
    clearTimeout(this.timer);
    this.poll();
  }

  async poll() {
    clearTimeout(this.timer);
    const turn = (this.turn = (this.turn || 0) + 1);
    try {
      const answer = await this.server.get("state", { person: this.chosen, known: this.version });
      if (turn !== this.turn) return;
      this.ahead = answer.now - Date.now() / 1000;
      if (answer.state) {
        this.version = answer.version;
        this.state = answer.state;
        this.draw();
        this.panel.changed();
      }
      if (this.lost) this.say("");
      this.lost = false;
    } catch (error) {
      if (turn !== this.turn) return;
      this.lost = true;
      this.say("The site does not answer. Trying again.", true);
    }
    const pause = document.hidden ? 4000 : Date.now() < (this.busy_until || 0) ? QUICK : CALM;
    this.timer = setTimeout(() => this.poll(), pause);
  }

  now() {
    return Date.now() / 1000 + this.ahead;
  }

  get person() {
    return this.state && this.state.screen && this.state.persons.find((one) => one.id === this.state.screen.id);
  }

  get page() {
    return this.person && this.state.pages.find((one) => one.id === this.person.page);
  }

  choose(id) {
    this.chosen = id;
    sessionStorage.setItem("djm-person", id);
    this.version = "";
    this.forget();
    this.field.value = "";
    this.grow();
    this.panel.clear();
    this.hurry();
    this.view("chat");
  }

  // Drawing

  draw() {
    const { screen, process } = this.state;
    if (this.process && this.process !== process) this.say("The process with the conversations has ended. All persons are new to the bot.", true);
    this.process = process;
    if (this.shown !== (screen && screen.id)) {
      this.shown = screen && screen.id;
      this.drawn.clear();
      this.messages.replaceChildren();
    }
    this.drawPeople();
    if (!screen) return;
    this.chosen = screen.id;
    refill(this.who, avatar(this.page.name, "", "page"), h("div", {}, h("h2", { dir: "auto" }, this.page.name), h("small", { dir: "auto" }, `as ${this.person.name}`, screen.linked ? ", logged in" : "")));
    this.chat.setAttribute("aria-label", `${this.person.name} with ${this.page.name}`);
    this.drawThread(screen);
    this.drawChips(screen);
    this.menu.hidden = !screen.menu.length;
    this.secret.hidden = !this.state.offers_secret;
    this.typing.hidden = !screen.typing;
    if (this.toBottom) this.thread.scrollTop = this.thread.scrollHeight;
    this.toBottom = false;
    const trouble = this.state.problem || this.page.alerts[0] || "";
    if (trouble !== this.trouble) this.say(trouble && `Callbacks fail: ${trouble}`, true);
    this.trouble = trouble;
    this.tick();
  }

  drawPeople() {
    const { pages, persons } = this.state;
    const key = JSON.stringify([pages, persons, this.chosen, this.state.screen && this.state.screen.id]);
    if (key === this.peopleKey) return;
    this.peopleKey = key;
    const had = this.list.contains(document.activeElement) && document.activeElement.dataset.id;
    const current = this.state.screen && this.state.screen.id;
    refill(this.list, pages.map((page) => [
      h("h2", { dir: "auto" }, page.name, page.channel === "instagram" ? h("small", {}, "Instagram") : null),
      h("ul", {}, persons.filter((one) => one.page === page.id).map((one) => this.row(one, current))),
    ]));
    if (had) this.list.querySelector(`[data-id="${had}"]`)?.focus();
  }

  row(one, current) {
    const last = one.last;
    const line = last ? `${last.by_page ? "" : "You: "}${last.text || inShort(last)}` : "No message yet";
    return h("li", {}, h("button", { type: "button", class: "person", "data-id": one.id, "aria-current": one.id === current ? "true" : null, onclick: () => this.choose(one.id) },
      avatar(one.name, one.picture), h("span", { class: "grow" }, h("strong", { dir: "auto" }, one.name), h("span", { class: "preview", dir: "auto" }, line)),
      h("span", { class: "side" }, last ? clockTime(last.time) : "", h("small", {}, one.locale))));
  }

  drawThread(screen) {
    const bottom = this.thread.scrollHeight - this.thread.scrollTop - this.thread.clientHeight < 120;
    const fresh = !this.drawn.size;
    const before = this.drawn.size;
    refill(this.intro, avatar(this.page.name, "", "huge page"), h("strong", { dir: "auto" }, this.page.name), screen.greeting ? h("p", { class: "greeting", dir: "auto" }, screen.greeting) : null, screen.earlier ? h("small", {}, `${screen.earlier} earlier messages are not shown`) : null);
    const seen = new Set();
    const own = screen.thread.filter((one) => !one.by_page);
    const lastOwn = own[own.length - 1];
    let anchor = null;
    screen.thread.forEach((bubble, index) => {
      seen.add(bubble.mid);
      const previous = screen.thread[index - 1];
      const next = screen.thread[index + 1];
      const place = {
        first: !previous || previous.by_page !== bubble.by_page || bubble.time - previous.time > GAP,
        last: !next || next.by_page !== bubble.by_page || next.time - bubble.time > GAP,
        gap: !previous || bubble.time - previous.time > GAP,
        fate: bubble === lastOwn ? this.fate(bubble, screen, index) : bubble.fate && bubble.fate !== "delivered" ? this.fate(bubble, screen, index) : "",
      };
      const quoted = bubble.reply_to && screen.thread.find((one) => one.mid === bubble.reply_to);
      const key = JSON.stringify([bubble, place, quoted && inShort(quoted)]);
      const old = this.drawn.get(bubble.mid);
      if (!old || old.key !== key) {
        const element = this.bubble(bubble, place, quoted);
        if (old) {
          const focused = old.element.contains(document.activeElement);
          old.element.replaceWith(element);
          if (focused) element.querySelector(".bubble").focus();
        } else if (anchor) anchor.after(element);
        else this.messages.prepend(element);
        this.drawn.set(bubble.mid, { key, element });
      }
      anchor = this.drawn.get(bubble.mid).element;
    });
    for (const [mid, { element }] of this.drawn) {
      if (!seen.has(mid)) {
        element.remove();
        this.drawn.delete(mid);
      }
    }
    if (!this.messages.querySelector('.bubble[tabindex="0"]')) this.messages.querySelector("li:last-child .bubble")?.setAttribute("tabindex", "0");
    if (fresh || (bottom && before !== this.drawn.size) || (this.drawn.size > before && !screen.thread.at(-1)?.by_page) || screen.typing) this.toBottom = true;
  }

  fate(bubble, screen, index) {
    if (bubble.fate && bubble.fate !== "delivered") return `Not delivered: ${bubble.fate}`;
    if (!bubble.fate) return "Sending";
    return screen.seen_by_page || screen.thread.slice(index + 1).some((one) => one.by_page) ? "Seen" : "Delivered";
  }

  bubble(bubble, place, quoted) {
    const mine = !bubble.by_page;
    const acts = {
      press: async (index, button) => {
        const done = await this.perform("press", { person: this.person.id, mid: bubble.mid, index });
        if (done && button.type === "account_link") this.form("logIn", done.opened);
      },
      send: (act, args) => this.act(act, args),
      form: (name, given) => this.form(name, given),
    };
    const card = ["template", "image", "images", "audio", "video", "file", "sticker", "location"].includes(bubble.kind);
    const who = mine ? "You" : (bubble.persona || {}).name || this.page.name;
    const body = h("div", { class: `bubble ${card ? "bare" : ""}`, tabindex: "-1", role: "group", "aria-label": `${who}, ${clockTime(bubble.time)}: ${inShort(bubble).slice(0, 60)}`, "data-mid": bubble.mid }, content(bubble, acts), reactions(bubble));
    body.addEventListener("focusin", () => this.stop_at(body));
    body.addEventListener("click", (event) => event.target.closest("a, button, textarea") || this.panel.pin(bubble.mid));
    body.addEventListener("pointerenter", () => {
      clearTimeout(this.dwell);
      this.dwell = setTimeout(() => this.panel.look(bubble.mid), 220);
    });
    body.addEventListener("pointerleave", () => clearTimeout(this.dwell));
    const item = h("li", { class: `line ${mine ? "mine" : "theirs"} ${place.first ? "first" : ""} ${place.last ? "last" : ""}` });
    put(item, [
      place.gap && h("div", { class: "when" }, dayAndTime(bubble.time)),
      !mine && bubble.persona && place.first && h("div", { class: "persona", dir: "auto" }, bubble.persona.name),
      quoted && h("div", { class: "quote", dir: "auto" }, icon("reply"), inShort(quoted)),
      h("div", { class: "put" }, !mine && (place.last ? face(bubble, this.page.name) : h("span", { class: "no-face" })), body, this.tools(bubble, mine)),
      bubble.edits ? h("div", { class: "fate" }, "Edited") : null,
      place.fate && h("div", { class: `fate ${place.fate.startsWith("Not") ? "bad" : ""}` }, place.fate === "Seen" ? avatar(this.page.name, "", "mini page") : null, place.fate),
    ]);
    return item;
  }

  tools(bubble, mine) {
    const quiet = { tabindex: "-1" };
    const box = h("div", { class: "bubble-tools" });
    const reactTo = tool("face", "React", () => {
      const given = (bubble.reactions || {}).person;
      refill(box, h("span", { class: "faces", role: "group", "aria-label": "Reactions" }, FACES.map(([one, name]) => h("button", { type: "button", "aria-label": name, "aria-pressed": String(given === one), onclick: () => (given === one ? this.act("unreacts", [bubble.mid]) : this.act("reacts", [one, bubble.mid])) }, one))));
      box.querySelector("button").focus();
    }, quiet);
    return put(box, [
      reactTo,
      tool("reply", "Reply", () => this.begin("replyTo", bubble), quiet),
      mine && bubble.kind === "text" && tool("edit", "Edit", () => this.begin("editing", bubble), quiet),
      tool("code", "Show details", () => {
        this.panel.pin(bubble.mid, true);
        this.open("message");
      }, quiet),
    ]);
  }

  /** One tab stop for the whole thread; the arrows go from message to message. */
  stop_at(body) {
    for (const one of this.messages.querySelectorAll('.bubble[tabindex="0"]')) one.tabIndex = -1;
    for (const one of this.messages.querySelectorAll('.bubble-tools .tool[tabindex="0"]')) one.tabIndex = -1;
    body.tabIndex = 0;
    for (const one of body.parentNode.querySelectorAll(".bubble-tools .tool")) one.tabIndex = 0;
    this.panel.look(body.dataset.mid);
  }

  walk(event) {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    const all = [...this.messages.querySelectorAll(".bubble")];
    if (!all.length || /^(TEXTAREA|INPUT)$/.test(event.target.tagName)) return;
    const at = all.indexOf(event.target.closest(".put")?.querySelector(".bubble"));
    let to = null;
    if (step) to = at < 0 ? all.at(-1) : all[at + step];
    else if (event.key === "Home") to = all[0];
    else if (event.key === "End") to = all.at(-1);
    else if (event.key === "Enter" && event.target.classList.contains("bubble")) {
      this.panel.pin(event.target.dataset.mid, true);
      this.open("message");
    }
    if (!to) return;
    event.preventDefault();
    to.focus();
    to.scrollIntoView({ block: "nearest" });
  }

  drawChips(screen) {
    const key = JSON.stringify([screen.id, screen.quick_replies, screen.ice_breakers, screen.can_get_started]);
    if (key === this.chipsKey) return;
    this.chipsKey = key;
    const had = this.chips.contains(document.activeElement);
    const chips = screen.quick_replies.map((one) => this.chip(one));
    if (screen.can_get_started) chips.push(h("button", { type: "button", class: "get-started", onclick: () => this.act("gets_started", []) }, "Get Started"));
    for (const one of screen.ice_breakers) chips.push(h("button", { type: "button", class: "chip", dir: "auto", onclick: () => this.act("taps_ice_breaker", [one.question]) }, one.question));
    refill(this.chips, chips);
    this.chips.hidden = !chips.length;
    if (had) (this.chips.querySelector("button") || this.field).focus();
  }

  chip(one) {
    const contact = { user_phone_number: ["Send phone number", "gives_phone", "tel", "+886 2 5550 0100", "phone"], user_email: ["Send e-mail address", "gives_email", "email", "ana@example.com", "user"] }[one.content_type];
    if (contact) {
      const [label, act, type, value, shape] = contact;
      return h("button", { type: "button", class: "chip", onclick: async () => {
        const given = await ask(this, label, type, value);
        if (given) this.act(act, [given]);
      } }, icon(shape), label);
    }
    return h("button", { type: "button", class: "chip", dir: "auto", onclick: () => this.act("taps_quick_reply", [one.title || one.payload]) }, one.image_url ? h("span", { class: "chip-image" }, avatar(one.title || "", one.image_url, "mini")) : null, one.title);
  }

  menuItems() {
    return h("div", { class: "choices" }, this.state.screen.menu.map((item) =>
      item.type === "web_url"
        ? h("a", { href: /^https?:/.test(item.url) ? item.url : null, target: "_blank", rel: "noopener noreferrer", dir: "auto", onclick: () => this.act("taps_menu", [item.title]) }, item.title)
        : h("button", { type: "button", dir: "auto", onclick: () => this.act("taps_menu", [item.title]) }, item.title)));
  }

  tick() {
    if (!this.person) return;
    const ends = this.person.window;
    const left = ends === null ? null : ends - this.now();
    const text = left === null ? "no window" : left > 0 ? span(left) : "window closed";
    refill(this.window_, icon("clock"), h("span", {}, text));
    this.window_.title = left === null ? "The window opens with the person's first message" : left > 0 ? "Time until the window closes, in which the bot may answer" : "The window is closed: the bot may only send messages with a tag";
    this.window_.dataset.state = left === null ? "none" : left <= 0 ? "closed" : left < 3600 ? "short" : "open";
  }

  // Acts of a person

  say(text, trouble) {
    clearTimeout(this.saying);
    this.notice.className = `notice ${trouble ? "trouble" : ""}`;
    this.notice.textContent = text || "";
    if (text && !trouble) this.saying = setTimeout(() => this.say(""), 5000);
  }

  async perform(name, values) {
    try {
      const answer = await this.server.perform(name, values);
      if (!this.trouble) this.say("");
      if (answer.opened) this.say(`Opened ${answer.opened}`);
      return answer;
    } catch (error) {
      this.say(error.message, true);
      return null;
    } finally {
      this.hurry();
    }
  }

  act(act, args, options) {
    return this.perform("act", { person: this.person.id, act, args, options: options || {} });
  }

  async submit() {
    const text = this.field.value;
    if (!this.person) return;
    if (!text.trim()) {
      if (!this.editing) await this.act("sends_sticker", []);
      return;
    }
    const done = this.editing
      ? await this.act("edits", [text, this.editing])
      : await this.act("says", [text], this.replyTo ? { reply_to: this.replyTo } : {});
    if (!done) return;
    this.field.value = "";
    this.forget();
    this.grow();
  }

  grow() {
    this.field.style.height = "auto";
    const height = this.field.scrollHeight;
    if (height) this.field.style.height = `${Math.min(height, 130)}px`;
    const writing = Boolean(this.field.value.trim());
    if (writing === this.writing) return;
    this.writing = writing;
    refill(this.go, icon(writing ? "send" : "thumb"));
    this.go.setAttribute("aria-label", writing ? "Send" : "Send a thumb");
    this.go.title = writing ? "Send" : "Send a thumb";
  }

  insert(emoji) {
    const at = this.field.selectionStart ?? this.field.value.length;
    this.field.setRangeText(emoji, at, this.field.selectionEnd ?? at, "end");
    this.grow();
  }

  begin(what, bubble) {
    this.forget();
    this[what] = bubble.mid;
    if (what === "editing") this.field.value = bubble.text;
    refill(this.about, h("span", { class: "grow", dir: "auto" }, what === "editing" ? "Editing" : "Reply to ", what === "editing" ? "" : h("q", { dir: "auto" }, inShort(bubble))), tool("close", "Do not", () => this.forget(true)));
    this.about.hidden = false;
    this.grow();
    this.field.focus();
  }

  forget(empty) {
    if (empty && this.editing) this.field.value = "";
    this.replyTo = this.editing = "";
    this.about.hidden = true;
    this.grow();
  }

  async send_file(file) {
    this.picker.value = "";
    if (!file) return;
    try {
      await this.server.upload(this.person.id, file);
      this.say("");
    } catch (error) {
      this.say(error.message, true);
    }
    this.hurry();
  }

  async record() {
    if (this.recorder) {
      this.recorder.stop();
      return;
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    } catch {
      this.picker.accept = "audio/*";
      this.picker.click();
      return;
    }
    const parts = [];
    this.recorder = new MediaRecorder(stream);
    this.recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
    this.recorder.addEventListener("stop", () => {
      for (const track of stream.getTracks()) track.stop();
      const type = this.recorder.mimeType.split(";")[0] || "audio/webm";
      this.recorder = null;
      this.voice.classList.remove("recording");
      this.say("");
      this.send_file(new File(parts, `voice.${type.split("/")[1]}`, { type }));
    });
    this.recorder.start();
    this.voice.classList.add("recording");
    this.say("Recording. Press the microphone again to send.");
  }

  async restart() {
    await this.perform("restart", {});
    this.version = "";
    this.chosen = "";
    this.panel.clear();
    this.hurry();
    this.say("Started again. All persons are new to the bot.");
  }
}

customElements.define("djm-simulator", Simulator);
