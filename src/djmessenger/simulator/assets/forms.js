// Rarely used dialogs, loaded on first use: an address, a log-in, a link.

import { h, loadable } from "./elements.js";
import { choice, dialog, field } from "./tools.js";

/** The form of a customer information template. */
export function giveInformation(root, payload) {
  const countries = payload.countries && payload.countries.length ? payload.countries : ["TW", "DE", "EE", "US"];
  const row = (...fields) => h("div", { class: "pair" }, fields);
  dialog(root, "Your details", [
    field("Name", "name", { value: root.person.name, required: true }),
    field("Phone", "phone", { type: "tel", value: "+886 2 5550 0100" }),
    field("Address", "address_line_1", { value: "Pikk 1", required: true }),
    row(field("Postal code", "postal_code", { value: "10123" }), field("City", "locality", { value: "Tallinn", required: true })),
    row(field("State or county", "administrative_area", { value: "Harjumaa" }), choice("Country", "country", countries.map((one) => [one, one]), countries[0])),
  ], "Send", (values) => root.act("gives_information", [values]));
}

/** A log-in page opens in another tab. A project without one can finish the linking in this dialog. */
export function logIn(root, address) {
  const link = loadable(address) ? h("a", { href: address, target: "_blank", rel: "noopener" }, "Open your log-in page") : "Your log-in page would open";
  dialog(root, "Log in", [
    h("p", { class: "hint" }, link, " at ", h("code", { class: "address" }, address), ". The account is linked when it redirects the browser to the redirect_uri with an authorization_code. Without such a page, link the account here."),
    field("Authorization code", "code", { value: "made-up-code", required: true }),
  ], "Link the account", (values) => root.act("links_account", [values.code]));
}

export function openLink(root) {
  dialog(root, "An m.me link", [
    field("Reference (the link's ?ref=)", "ref", { value: "spring", required: true, maxlength: "2083" }),
    choice("Comes from", "source", [["SHORTLINK", "a link m.me/…"], ["ADS", "an ad"]]),
  ], "Open it", (values) => root.act("opens_link", [values.ref], { source: values.source }));
}

export function shareLink(root) {
  dialog(root, "A link", [field("Address", "url", { type: "url", value: "https://example.com/", required: true })], "Send", (values) => root.act("sends_link", [values.url]));
}
