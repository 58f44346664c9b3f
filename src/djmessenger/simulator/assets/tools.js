// Dialogs: a person, a Page, a place, a text.

import { copy, h, put, tool } from "./elements.js";

const LOCALES = ["en_US", "en_GB", "de_DE", "zh_TW", "zh_CN", "fr_FR", "es_ES", "pt_BR", "it_IT", "nl_NL", "pl_PL", "et_EE", "tr_TR", "ar_AR", "he_IL", "ja_JP", "ko_KR", "th_TH", "vi_VN", "hi_IN"];

/** Show a dialog. ``done`` receives the values of the form and returns true to close it. */
export function dialog(root, title, fields, submit, done) {
  const name = `dialog-${title.replace(/\W/g, "")}`;
  const box = h("dialog", { class: "dialog", "aria-labelledby": name });
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    if (await done(Object.fromEntries(new FormData(form)))) box.close();
  } }, h("header", {}, h("h2", { id: name }, title), tool("close", "Close", () => box.close())), fields, h("footer", {}, h("button", { type: "submit", class: "main" }, submit)));
  box.append(form);
  box.addEventListener("close", () => box.remove());
  root.append(box);
  box.showModal();
  (form.querySelector("input, textarea, select") || form).focus();
  return box;
}

export function field(label, name, more) {
  return h("label", { class: "labelled" }, h("span", {}, label), h("input", { name, autocomplete: "off", ...more }));
}

export function choice(label, name, options, chosen) {
  return h("label", { class: "labelled" }, h("span", {}, label), h("select", { name }, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text))));
}

export function addPerson(root) {
  const list = h("datalist", { id: "djm-locales" }, LOCALES.map((one) => h("option", { value: one })));
  dialog(root, "A new person", [
    field("Name", "name", { value: "Ben Yilmaz", required: true, maxlength: "120" }),
    h("div", { class: "pair" }, field("Locale", "locale", { value: "en_US", list: "djm-locales", pattern: "[a-z]{2,3}_[A-Z]{2}" }), field("Hours from UTC", "timezone", { type: "number", step: "0.25", min: "-12", max: "14", value: "0" })),
    field("Picture (address, may be empty)", "picture", { type: "url" }),
    choice("Writes to", "page", root.state.pages.map((one) => [one.id, one.name]), root.page && root.page.id),
    list,
  ], "Add", async (values) => {
    const made = await root.perform("person", values);
    if (made) root.choose(made.id);
    return made;
  });
}

export function addPage(root) {
  dialog(root, "A new Page", [
    field("Name", "name", { value: "Second Page", required: true, maxlength: "75" }),
    choice("Channel", "channel", [["messenger", "Messenger"], ["instagram", "Instagram"]]),
  ], "Add", async (values) => {
    const made = await root.perform("page", values);
    if (made) root.choose(made.person);
    return made;
  });
}

const PLACES = [["Taipei 101", 25.034, 121.5645], ["Brandenburger Tor", 52.5163, 13.3777], ["Old Town, Tallinn", 59.437, 24.7453], ["Null Island", 0, 0]];

export function sendLocation(root) {
  const title = field("Name", "title", { value: PLACES[0][0] });
  const lat = field("Latitude", "lat", { type: "number", step: "any", min: "-90", max: "90", value: PLACES[0][1], required: true });
  const long = field("Longitude", "long", { type: "number", step: "any", min: "-180", max: "180", value: PLACES[0][2], required: true });
  const set = (place) => [title, lat, long].forEach((one, n) => (one.querySelector("input").value = place[n]));
  dialog(root, "A location", [
    h("div", { class: "suggestions", role: "group", "aria-label": "Places" }, PLACES.map((place) => h("button", { type: "button", class: "chip", onclick: () => set(place) }, place[0]))),
    title, h("div", { class: "pair" }, lat, long),
  ], "Send", (values) => root.act("sends_location", [Number(values.lat), Number(values.long), values.title]));
}

export function ask(root, label, type, value) {
  return new Promise((resolve) => {
    const box = dialog(root, label, [field(label, "value", { type, value, required: true })], "Send", (values) => {
      resolve(values.value);
      return true;
    });
    box.addEventListener("close", () => resolve(""));
  });
}

export function showText(root, title, text, hint) {
  const area = h("textarea", { class: "code", rows: "18", readonly: true, spellcheck: "false", "aria-label": title, value: text });
  const box = dialog(root, title, put(h("div", {}), [hint && h("p", { class: "hint" }, hint), area]), "Copy", async () => {
    root.say((await copy(text)) ? "Copied." : "Copying is not allowed here.");
    return true;
  });
  box.classList.add("wide");
}
