// Small tools: elements of plain text, icons, safe pictures, words for times.

/** Build an element. Strings become text, never HTML. */
export function h(tag, props, ...kids) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  put(element, kids);
  return element;
}

export function put(element, kids) {
  for (const kid of kids.flat(9)) {
    if (kid === null || kid === undefined || kid === false) continue;
    element.append(kid instanceof Node ? kid : String(kid));
  }
  return element;
}

export function refill(element, ...kids) {
  element.replaceChildren();
  return put(element, kids);
}

const SHAPES = {
  add: "M12 5v14M5 12h14",
  back: "M15 5l-7 7 7 7",
  bug: "M8 9a4 4 0 0 1 8 0v6a4 4 0 0 1-8 0zM8 12H4M20 12h-4M8 9L5 6M16 9l3-3M8 16l-3 3M16 16l3 3M12 9v10",
  camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7",
  check: "M5 12l5 5 9-10",
  clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16M12 8v4l3 2",
  close: "M6 6l12 12M18 6L6 18",
  code: "M9 7l-5 5 5 5M15 7l5 5-5 5",
  copy: "M9 9h10v10H9zM5 15V5h10",
  edit: "M5 19l1-4L16 5l3 3L9 18z",
  file: "M7 4h7l4 4v12H7zM14 4v4h4",
  face: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16M9 10v.5M15 10v.5M8.5 14c1.8 2.4 5.2 2.4 7 0",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9v.1",
  info: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16M12 11v5M12 8v.1",
  list: "M9 6h11M9 12h11M9 18h11M5 6v.1M5 12v.1M5 18v.1",
  menu: "M5 7h14M5 12h14M5 17h14",
  mic: "M12 4a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V7a3 3 0 0 1 3-3M6 11a6 6 0 0 0 12 0M12 17v3",
  next: "M9 5l7 7-7 7",
  page: "M5 19V6l9-2v15M14 9l5 1v9M8 9h3M8 13h3",
  phone: "M6 4h4l2 5-3 2a10 10 0 0 0 4 4l2-3 5 2v4c-8 2-16-6-14-14z",
  pin: "M12 21c-4-5-6-8-6-11a6 6 0 0 1 12 0c0 3-2 6-6 11M12 8a2 2 0 1 0 0 4 2 2 0 0 0 0-4",
  play: "M8 5l11 7-11 7z",
  reply: "M10 6L4 12l6 6M4 12h9a7 7 0 0 1 7 7",
  restart: "M5 12a7 7 0 1 1 2 5M5 12V7M5 12h5",
  send: "M4 12L20 5l-5 15-4-6z",
  sticker: "M5 5h14v9l-5 5H5zM14 19v-5h5",
  thumb: "M7 11l4-7c2 0 2.5 1.5 2 3l-.7 3H18a2 2 0 0 1 2 2.5l-1.300 5A2 2 0 0 1 16.800 19H7zM7 11H4v8h3",
  user: "M12 5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7M5 20c.5-4 3-6 7-6s6.5 2 7 6",
};

/** An icon; the label is on the button around it. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `icon icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", SHAPES[name]);
  svg.append(path);
  return svg;
}

/** A round button with an icon and a name. */
export function tool(name, label, onclick, more) {
  return h("button", { type: "button", class: "tool", "aria-label": label, title: label, onclick, ...more }, icon(name));
}

const RESERVED = /(^|\.)(example\.(com|org|net)|example|test|invalid|local)$/i;

/** Return whether the browser may load this address. Domains reserved for examples are never loaded. */
export function loadable(address) {
  let url;
  try {
    url = new URL(address, location.href);
  } catch {
    return false;
  }
  if (url.origin === location.origin) return true;
  if (url.protocol === "data:") return /^data:image\//.test(address);
  return url.protocol === "https:" && !RESERVED.test(url.hostname);
}

function lastPart(address) {
  try {
    return decodeURIComponent(new URL(address, location.href).pathname.split("/").pop());
  } catch {
    return "";
  }
}

export { lastPart as fileName };

/** The address of a file that a person sent, on the site as this browser reaches it; another address unchanged. */
export function here(address) {
  const base = document.querySelector("djm-simulator").dataset.base;
  const path = URL.canParse(address, location.href) ? new URL(address, location.href).pathname : "";
  return path.startsWith(`${base}files/`) ? path : address;
}

/** A picture, or a drawn placeholder if it cannot be loaded. */
export function picture(address, alt, kind = "image") {
  const standIn = () =>
    h("span", { class: "stand-in", role: "img", "aria-label": alt || "Picture" }, icon(kind), h("span", { class: "stand-in-name" }, lastPart(address) || kind));
  if (!address || !loadable(address)) return standIn();
  const image = h("img", { src: address, alt: alt || "", loading: "lazy", referrerpolicy: "no-referrer" });
  image.addEventListener("error", () => image.replaceWith(standIn()));
  return image;
}

const HUES = [212, 262, 322, 12, 36, 152, 182, 232];

/** The picture of a person; without one, the initials on a colour derived from the name. */
export function avatar(name, address, more = "") {
  const words = [...(name || "?").trim()].length ? name.trim().split(/\s+/) : ["?"];
  const initials = words.slice(0, 2).map((word) => [...word][0] || "").join("").toUpperCase();
  let sum = 0;
  for (const letter of name || "") sum = (sum * 31 + letter.codePointAt(0)) % 9973;
  const face = h("span", { class: `avatar ${more}`, "aria-hidden": "true" });
  face.style.setProperty("--hue", HUES[sum % HUES.length]);
  const own = address && loadable(address);
  if (own) {
    const image = h("img", { src: address, alt: "", referrerpolicy: "no-referrer" });
    image.addEventListener("error", () => refill(face, initials));
    face.append(image);
  } else face.append(initials);
  return face;
}

/** A text with its addresses as links. */
export function words(text) {
  const parts = String(text).split(/(https?:\/\/[^\s<>"']+)/);
  return parts.map((part, index) =>
    index % 2 ? h("a", { href: part, target: "_blank", rel: "noopener noreferrer" }, part) : part);
}

export function clockTime(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

export function dayAndTime(seconds) {
  return new Date(seconds * 1000).toLocaleString([], { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
}

export function span(seconds) {
  const all = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  return `${Math.floor(all / 3600)}:${two(Math.floor(all / 60) % 60)}:${two(all % 60)}`;
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "visually-hidden", value: text });
    (document.querySelector("dialog[open]") || document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** Client of the server: reads its state and sends actions. */
export class Server {
  constructor(base, csrf) {
    this.base = base;
    this.csrf = csrf;
  }

  async get(path, query) {
    const answer = await fetch(`${this.base}${path}?${new URLSearchParams(query || {})}`, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`The site answered ${answer.status}.`);
    return answer.json();
  }

  async perform(name, values) {
    const answer = await fetch(`${this.base}orders/${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": this.csrf },
      body: JSON.stringify(values || {}),
    });
    return this.read(answer);
  }

  async upload(person, file) {
    const form = new FormData();
    form.append("person", person);
    form.append("file", file, file.name || "voice.webm");
    return this.read(await fetch(`${this.base}files`, { method: "POST", headers: { "X-CSRFToken": this.csrf }, body: form }));
  }

  async read(answer) {
    let data = {};
    try {
      data = await answer.json();
    } catch {
      data = { error: answer.status === 403 ? "This page is out of date. Reload it." : `The site answered ${answer.status}.` };
    }
    if (!answer.ok) throw new Error(data.error || `The site answered ${answer.status}.`);
    return data;
  }
}
