// Drawing of one message as in Messenger: texts, files, and templates as cards.

import { avatar, fileName, h, here, icon, loadable, picture, tool, words } from "./elements.js";

const FACES = { love: "❤️", smile: "😆", wow: "😮", sad: "😢", angry: "😠", like: "👍", dislike: "👎" };

export const STICKERS = [
  ["369239263222822", "👍", "Thumb"],
  ["369239343222814", "👍", "Larger thumb"],
  ["369239383222810", "👍", "Largest thumb"],
  ["209575122566323", "🐱", "Cat"],
  ["126361874215276", "🎉", "Party"],
  ["788171644590353", "☕\ufe0f", "Coffee"],
  ["657501937666397", "🥰", "In love"],
  ["144885145685752", "🙏", "Thank you"],
];

/** Draw the content of a bubble. ``acts`` has press(index, button), send(act, args), form(name, given). */
export function content(bubble, acts) {
  const attachment = bubble.message.attachment;
  if (bubble.kind === "template") return template(bubble, attachment.payload || {}, acts);
  const parts = bubble.by_page
    ? [attachment, ...(bubble.message.attachments || [])].filter(Boolean)
    : bubble.message.attachments || [];
  if (bubble.kind === "sticker") return sticker(bubble, parts);
  if (bubble.kind === "images") return h("div", { class: "grid" }, parts.map((part) => picture((part.payload || {}).url, "Picture")));
  if (["text", "postback", "utility"].includes(bubble.kind)) return text(bubble.text || " ", bubble);
  const part = parts[0] || {};
  const address = here(bubble.message.url || (part.payload || {}).url || part.url || "");
  const drawn = attached(bubble.kind, part, address);
  return bubble.text && !bubble.by_page ? h("div", {}, drawn, text(bubble.text, bubble)) : drawn;
}

function text(said, bubble) {
  const letters = [...said.trim()];
  const big = letters.length <= 8 && /^(\p{Extended_Pictographic}|\p{Emoji_Component}|\s)+$/u.test(said) && /\p{Extended_Pictographic}/u.test(said);
  const classes = `words ${big ? "big" : ""} ${bubble.kind === "postback" ? "tapped" : ""}`;
  return h("p", { class: classes, dir: "auto" }, words(said));
}

function sticker(bubble, parts) {
  const id = String(bubble.message.sticker_id || ((parts[0] || {}).payload || {}).sticker_id || "");
  const known = STICKERS.find((one) => one[0] === id);
  const size = id === "369239383222810" ? "largest" : id === "369239263222822" ? "small" : "";
  if (id.startsWith("3692392") || id.startsWith("3692393"))
    return h("span", { class: `sticker thumb ${size}`, role: "img", "aria-label": "Thumbs up" }, icon("thumb"));
  if (known) return h("span", { class: "sticker", role: "img", "aria-label": `Sticker: ${known[2]}` }, known[1]);
  return h("span", { class: "picture" }, picture(((parts[0] || {}).payload || {}).url, `Sticker ${id}`, "sticker"));
}

function attached(kind, part, address) {
  if (kind === "image") return h("span", { class: "picture" }, picture(address, "Picture"));
  if (kind === "audio") return voice(address);
  if (kind === "location") return place(part);
  const label = { video: "Video", file: "File" }[kind] || kind;
  const name = fileName(address) || label;
  const inside = [h("span", { class: "file-icon" }, icon(kind === "video" ? "play" : "file")), h("span", { class: "file-name", dir: "auto" }, name, h("small", {}, label))];
  return loadable(address) ? h("a", { class: "file", href: address, target: "_blank", rel: "noopener noreferrer" }, inside) : h("span", { class: "file" }, inside);
}

function place(part) {
  const where = (part.payload || {}).coordinates || {};
  const title = part.title || "Location";
  const at = `${Number(where.lat).toFixed(4)}, ${Number(where.long).toFixed(4)}`;
  return h("div", { class: "card place" }, h("div", { class: "map", role: "img", "aria-label": `Map at ${at}` }, icon("pin")), h("div", { class: "card-body" }, h("strong", { dir: "auto" }, title), h("small", {}, at)));
}

/** A voice message, played through the Web Audio API, because the page's policy allows no media elements. */
function voice(address) {
  const bars = h("span", { class: "wave", "aria-hidden": "true" }, Array.from({ length: 22 }, (_, n) => {
    const bar = h("i", {});
    bar.style.height = `${6 + ((n * 37) % 17)}px`;
    return bar;
  }));
  let playing = null;
  const button = tool("play", "Play voice message", async () => {
    if (playing) {
      playing.stop();
      return;
    }
    try {
      const bytes = await (await fetch(address)).arrayBuffer();
      const context = new AudioContext();
      playing = context.createBufferSource();
      playing.buffer = await context.decodeAudioData(bytes);
      playing.connect(context.destination);
      playing.addEventListener("ended", () => {
        playing = null;
        button.classList.remove("on");
      });
      playing.start();
      button.classList.add("on");
    } catch {
      button.disabled = true;
      button.title = "This recording cannot be played here";
    }
  });
  button.disabled = !loadable(address) || new URL(address, location.href).origin !== location.origin;
  return h("span", { class: "voice" }, button, bars);
}

// Templates

function template(bubble, payload, acts) {
  const draw = { generic, button, media, receipt, coupon, customer_feedback: feedback, image_grid: imageGrid, product, one_time_notif_req: oneTime, customer_information: information, instant_form: instantForm }[payload.template_type];
  return draw ? draw(bubble, payload, acts) : h("div", { class: "card" }, h("div", { class: "card-body" }, h("strong", {}, payload.template_type), bubble.text));
}

function buttonsOf(list, acts, first = 0) {
  if (!list || !list.length) return null;
  return h("div", { class: "card-buttons" }, list.map((button, number) => {
    const label = button.title || { account_link: "Log in", account_unlink: "Log out" }[button.type] || button.type;
    const press = () => acts.press(first + number, button);
    if (button.type === "web_url")
      return h("a", { class: "card-button", href: /^https?:/.test(button.url) ? button.url : null, target: "_blank", rel: "noopener noreferrer", onclick: press, dir: "auto" }, label);
    return cardButton(label, press);
  }));
}

function button(bubble, payload, acts) {
  return h("div", { class: "card" }, h("div", { class: "card-body" }, h("p", { class: "card-text", dir: "auto" }, words(payload.text))), buttonsOf(payload.buttons, acts));
}

function generic(bubble, payload, acts) {
  let first = 0;
  const cards = payload.elements.map((element) => {
    const from = first;
    first += (element.buttons || []).length;
    const image = element.image_url && h("div", { class: `card-image ${payload.image_aspect_ratio === "square" ? "square" : ""}` }, picture(element.image_url, element.title));
    const open = element.default_action && element.default_action.url;
    const title = open ? h("a", { href: open, target: "_blank", rel: "noopener noreferrer", dir: "auto" }, element.title) : element.title;
    return h("li", { class: "card" }, image, h("div", { class: "card-body" }, h("strong", { dir: "auto" }, title), element.subtitle && h("small", { dir: "auto" }, element.subtitle)), buttonsOf(element.buttons, acts, from));
  });
  return cards.length === 1 ? h("ul", { class: "cards one" }, cards) : carousel(cards);
}

function carousel(cards) {
  const row = h("ul", { class: "cards", tabindex: "0", "aria-label": `${cards.length} cards` }, cards);
  const move = (way) => row.scrollBy({ left: way * (cards[0].offsetWidth + 10), behavior: "smooth" });
  const back = tool("back", "Previous card", () => move(-1), { class: "tool swipe back" });
  const next = tool("next", "Next card", () => move(1), { class: "tool swipe next" });
  const ends = () => {
    back.hidden = row.scrollLeft < 4;
    next.hidden = row.scrollLeft > row.scrollWidth - row.clientWidth - 4;
  };
  row.addEventListener("scroll", ends, { passive: true });
  requestAnimationFrame(ends);
  return h("div", { class: "carousel" }, row, back, next);
}

function media(bubble, payload, acts) {
  const element = payload.elements[0];
  // An address at facebook.com leads to a post, which no browser can show as a picture.
  const address = element.media_type === "image" ? bubble.message.url || "" : "";
  return h("div", { class: "card" }, h("div", { class: "card-image" }, picture(address, element.media_type, element.media_type === "video" ? "play" : "image")), buttonsOf(element.buttons, acts));
}

function money(amount, currency) {
  try {
    return new Intl.NumberFormat([], { style: "currency", currency }).format(amount);
  } catch {
    return `${amount} ${currency}`;
  }
}

function receipt(bubble, payload) {
  const lines = (payload.elements || []).map((element) =>
    h("li", {}, element.image_url ? h("span", { class: "thumbnail" }, picture(element.image_url, element.title)) : null, h("span", { class: "grow", dir: "auto" }, element.title, h("small", {}, [element.subtitle, element.quantity && `Qty ${element.quantity}`].filter(Boolean).join(" · "))), h("span", {}, money(element.price, element.currency || payload.currency))));
  const sums = [["Subtotal", payload.summary.subtotal], ["Delivery", payload.summary.shipping_cost], ["Tax", payload.summary.total_tax]].filter((one) => one[1] !== undefined && one[1] !== null);
  const pairs = [...sums, ...(payload.adjustments || []).map((one) => [one.name, -one.amount])];
  const address = payload.address;
  return h("div", { class: "card receipt" },
    h("div", { class: "card-body" }, h("strong", {}, payload.merchant_name || "Receipt"), h("small", {}, `Order ${payload.order_number}`)),
    lines.length ? h("ul", { class: "lines" }, lines) : null,
    h("dl", { class: "facts" }, h("dt", {}, "Paid with"), h("dd", { dir: "auto" }, payload.payment_method), address && [h("dt", {}, "Deliver to"), h("dd", { dir: "auto" }, [payload.recipient_name, address.street_1, address.street_2, `${address.postal_code} ${address.city}`].filter(Boolean).join(", "))]),
    h("dl", { class: "sums" }, pairs.map(([name, amount]) => [h("dt", {}, name), h("dd", {}, money(amount, payload.currency))]), h("dt", { class: "total" }, "Total"), h("dd", { class: "total" }, money(payload.summary.total_cost, payload.currency))));
}

function coupon(bubble, payload, acts) {
  const code = payload.coupon_code && h("code", { hidden: true }, payload.coupon_code);
  const reveal = (event) => {
    code.hidden = false;
    event.currentTarget.remove();
    acts.send("reveals_coupon", []);
  };
  return h("div", {}, payload.coupon_pre_message && h("p", { class: "words", dir: "auto" }, payload.coupon_pre_message),
    h("div", { class: "card coupon" }, payload.image_url && h("div", { class: "card-image" }, picture(payload.image_url, payload.title)),
      h("div", { class: "card-body" }, h("strong", { dir: "auto" }, payload.title), h("small", { dir: "auto" }, payload.subtitle || "Terms may apply."), code),
      h("div", { class: "card-buttons" }, code && cardButton("Reveal code", reveal), payload.coupon_url && h("a", { class: "card-button", href: payload.coupon_url, target: "_blank", rel: "noopener noreferrer" }, payload.coupon_url_button_title || "Shop now"))));
}

const SCALES = { one_to_five: ["1", "2", "3", "4", "5"], five_stars: ["★", "★★", "★★★", "★★★★", "★★★★★"], five_emojis: ["😡", "🙁", "😐", "🙂", "😍"], zero_to_ten: Array.from({ length: 11 }, (_, n) => String(n)), one_to_seven: Array.from({ length: 7 }, (_, n) => String(n + 1)) };
const SCALE_OF = { csat: "one_to_five", nps: "zero_to_ten", ces: "one_to_seven" };

function feedback(bubble, payload, acts) {
  const question = payload.feedback_screens[0].questions[0];
  const scale = SCALES[question.score_option || SCALE_OF[question.type]];
  const comment = h("textarea", { rows: "2", maxlength: "400", "aria-label": (question.follow_up || {}).placeholder || "Your comment", placeholder: (question.follow_up || {}).placeholder || "Your comment" });
  let score = null;
  const choose = (event, value) => {
    score = value;
    for (const one of event.currentTarget.parentNode.children) one.setAttribute("aria-pressed", String(one === event.currentTarget));
  };
  const send = (event) => {
    const answer = { type: question.type, payload: question.type === "free_form" ? comment.value : String(score) };
    if (question.follow_up && comment.value) answer.follow_up = { type: "free_form", payload: comment.value };
    if (question.type !== "free_form" && score === null) return;
    acts.send("answers_feedback", [{ [question.id]: answer }]);
    event.currentTarget.disabled = true;
  };
  const base = (question.score_option || SCALE_OF[question.type]) === "zero_to_ten" ? 0 : 1;
  return h("div", { class: "card feedback" },
    h("div", { class: "card-body" }, h("strong", { dir: "auto" }, payload.title), payload.subtitle && h("small", { dir: "auto" }, payload.subtitle), h("p", { dir: "auto" }, question.title),
      scale && h("div", { class: "scores", role: "group", "aria-label": question.title || "Score" }, scale.map((label, n) => h("button", { type: "button", "aria-pressed": "false", "aria-label": `${n + base} of ${scale.length - 1 + base}`, onclick: (event) => choose(event, n + base) }, question.score_option === "five_stars" ? "★" : label))),
      (!scale || question.follow_up) && comment),
    h("div", { class: "card-buttons" }, cardButton(payload.button_title || "Send", send)));
}

function imageGrid(bubble, payload, acts) {
  const element = payload.elements[0];
  return h("div", { class: "card" },
    h("div", { class: "grid" }, element.images.map((image) => {
      const drawn = picture(image.url, (image.action || {}).text || "Picture");
      const action = image.action;
      const classes = image.is_hero_image ? "hero" : "";
      if (!action) return h("span", { class: classes }, drawn);
      if (action.type === "web_url") return h("a", { class: classes, href: action.url, target: "_blank", rel: "noopener noreferrer" }, drawn);
      return h("button", { type: "button", class: classes, onclick: () => acts.send("taps_button", [action.payload]) }, drawn);
    })),
    h("div", { class: "card-body" }, element.title && h("strong", { dir: "auto" }, element.title), element.subtitle && h("small", { dir: "auto" }, element.subtitle)),
    buttonsOf(element.buttons, acts));
}

function product(bubble, payload) {
  const cards = payload.elements.map((element) => h("li", { class: "card" }, h("div", { class: "card-image" }, picture("", `Product ${element.id}`)), h("div", { class: "card-body" }, h("strong", {}, `Product ${element.id}`), h("small", {}, "The details of this product are in the catalogue at Meta."))));
  return cards.length === 1 ? h("ul", { class: "cards one" }, cards) : carousel(cards);
}

function cardButton(label, onclick) {
  return h("button", { type: "button", class: "card-button", onclick, dir: "auto" }, label);
}

/** A card with a request, and the button that answers it. */
function request(title, note, label, onclick, more) {
  return h("div", { class: "card" }, h("div", { class: "card-body" }, h("strong", { dir: "auto" }, title), h("small", {}, note), more), h("div", { class: "card-buttons" }, cardButton(label, onclick)));
}

function oneTime(bubble, payload, acts) {
  return request(payload.title, "One message, once, when there is news.", "Notify me", () => acts.send("allows_one_time", [payload.payload]));
}

function information(bubble, payload, acts) {
  const privacy = h("a", { href: payload.business_privacy.url, target: "_blank", rel: "noopener noreferrer" }, h("small", {}, "Privacy policy"));
  return request("Your address", `To ship to you${payload.countries ? ` in ${payload.countries.join(", ")}` : ""}.`, "Add your details", () => acts.form("giveInformation", payload), privacy);
}

function instantForm(bubble, payload, acts) {
  return request("A form of the Page", `Form ${payload.form_id}. Its questions are stored at Meta.`, "Submit", () => acts.send("submits_form", []));
}

/** Return a message in a few words, for lists, quotes and screen readers. */
export function inShort(bubble) {
  if (bubble.text) return bubble.text.slice(0, 140);
  const element = (bubble.elements || [])[0] || {};
  return element.title || { image: "Picture", images: "Pictures", audio: "Voice message", video: "Video", file: "File", sticker: "Sticker", location: "Location", template: "Card" }[bubble.kind] || bubble.kind;
}

export function reactions(bubble) {
  const given = Object.values(bubble.reactions || {}).map((one) => FACES[one] || one);
  return given.length ? h("span", { class: "reactions", role: "img", "aria-label": `Reactions: ${given.join(" ")}` }, given) : null;
}

export function face(bubble, pageName) {
  const persona = bubble.persona;
  return persona ? avatar(persona.name, persona.profile_picture_url || persona.profile_pic_url || "", "tiny") : avatar(pageName, "", "tiny page");
}
