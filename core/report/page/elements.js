// Elements and texts. A text of a model or a person reaches the page through `shown` and as a text node, never as markup.

/** Names of signs that show nothing themselves or change how others are shown. */
const SIGNS = {
  0x7f: "DELETE",
  0x85: "NEXT LINE",
  0xad: "SOFT HYPHEN",
  0x61c: "ARABIC LETTER MARK",
  0x180e: "MONGOLIAN VOWEL SEPARATOR",
  0x200b: "ZERO WIDTH SPACE",
  0x200e: "LEFT-TO-RIGHT MARK",
  0x200f: "RIGHT-TO-LEFT MARK",
  0x2028: "LINE SEPARATOR",
  0x2029: "PARAGRAPH SEPARATOR",
  0x202a: "LEFT-TO-RIGHT EMBEDDING",
  0x202b: "RIGHT-TO-LEFT EMBEDDING",
  0x202c: "POP DIRECTIONAL FORMATTING",
  0x202d: "LEFT-TO-RIGHT OVERRIDE",
  0x202e: "RIGHT-TO-LEFT OVERRIDE",
  0x2060: "WORD JOINER",
  0x2066: "LEFT-TO-RIGHT ISOLATE",
  0x2067: "RIGHT-TO-LEFT ISOLATE",
  0x2068: "FIRST STRONG ISOLATE",
  0x2069: "POP DIRECTIONAL ISOLATE",
  0xfeff: "ZERO WIDTH NO-BREAK SPACE",
  0xfff9: "INTERLINEAR ANNOTATION ANCHOR",
  0xfffa: "INTERLINEAR ANNOTATION SEPARATOR",
  0xfffb: "INTERLINEAR ANNOTATION TERMINATOR",
};
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

/** How a sign is written so that one sees it: a control picture, or its number. */
function picture(code) {
  return code < 0x20
    ? String.fromCharCode(0x2400 + code)
    : code === 0x7f
      ? "\u2421"
      : "U+" + code.toString(16).toUpperCase().padStart(4, "0");
}

/** Nodes that show a text as it is, with signs that hide or turn text made visible. */
function shown(text) {
  text = String(text);
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > from) nodes.push(document.createTextNode(text.slice(from, match.index)));
    const code = match[0].codePointAt(0);
    const sign = document.createElement("span");
    sign.className = "sign";
    sign.title =
      "U+" +
      code.toString(16).toUpperCase().padStart(4, "0") +
      " " +
      (SIGNS[code] || (code < 0xa0 ? "CONTROL CHARACTER" : "FORMAT CHARACTER"));
    sign.textContent = picture(code);
    nodes.push(sign);
    from = match.index + match[0].length;
  }
  if (from < text.length) nodes.push(document.createTextNode(text.slice(from)));
  return nodes;
}

/** The same as one string, for places that hold no elements. */
function plain(text) {
  return String(text).replace(HIDDEN, (sign) => "\u27e8" + picture(sign.codePointAt(0)) + "\u27e9");
}

function put(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : plain(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    if (child instanceof Node) element.append(child);
    else element.append(...shown(child));
  }
  return element;
}

/** An HTML element. Children are elements, texts, lists of them, or nothing. */
function make(tag, attributes, ...children) {
  return put(document.createElement(tag), attributes, children);
}

/** An SVG element. */
function draw(tag, attributes, ...children) {
  return put(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/** A text that a model or a person wrote. */
function modelText(text, small) {
  return make("div", { class: small ? "model-text small" : "model-text", dir: "auto" }, text);
}

/** A short text from outside inside a sentence of ours: its direction ends with it. */
function quoted(text) {
  return make("bdi", {}, text);
}

function mark(text, tone) {
  return make("span", { class: "mark" + (tone ? " " + tone : "") }, text);
}

/** Rounded as the sentences are: what lies in the middle goes to the even digit, where `toFixed` goes up. */
function rounded(size, digits) {
  // Forty more digits show every tie of numbers of this kind as it is.
  const exact = size.toFixed(digits + 40);
  const kept = exact.slice(0, -40).replace(/\.$/, "");
  return /^50*$/.test(exact.slice(-40)) && /[02468]$/.test(kept) ? kept : size.toFixed(digits);
}

/** A number with so many digits after the point, and commas between thousands. */
function fixed(value, digits) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "\u2013";
  let text = rounded(Math.abs(value), digits);
  const [whole, part] = text.split(".");
  text = whole.replace(/\B(?=(\d{3})+$)/g, ",") + (part ? "." + part : "");
  return (value < 0 && Number(text.replace(/,/g, "")) !== 0 ? "\u2212" : "") + text;
}

/** A number with three digits that matter. */
function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "\u2013";
  const size = Math.abs(value);
  if (size !== 0 && size < 1e-3) return value.toExponential(1).replace("-", "\u2212");
  return fixed(value, size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3);
}

/** A score: no more digits than it has, and at most two. */
function score(value) {
  return value === null || value === undefined ? "\u2013" : String(Number(value.toFixed(2))).replace("-", "\u2212");
}

function percent(value, digits = 1) {
  return value === null || value === undefined ? "\u2013" : fixed(100 * value, digits) + " %";
}

function signed(text) {
  return /^\u2212/.test(text) || !/[1-9]/.test(text) ? text : "+" + text;
}

function plural(count, one, many) {
  return fixed(count, 0) + " " + (count === 1 ? one : many || one + "s");
}

/** A table. Cells are texts, nodes, or lists of them; the first of each row names it. The class `left2` puts two more
 *  columns to the left. */
function table(heading, rows, attributes) {
  return make(
    "div",
    { class: "wide", tabindex: 0 },
    make(
      "table",
      attributes,
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          heading.map((cell) => make("th", { scope: "col" }, cell)),
        ),
      ),
      make(
        "tbody",
        {},
        rows.map((row) =>
          make(
            "tr",
            {},
            row.map((cell, place) => (place ? make("td", {}, cell) : make("th", { scope: "row" }, cell))),
          ),
        ),
      ),
    ),
  );
}

/** What is folded away until it is asked for; made then. */
function folded(name, content) {
  const details = make("details", {}, make("summary", {}, name));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(...[content()].flat());
  });
  return details;
}

/** A figure of the evaluation: value, and below it the interval. */
function figureCell(figure, column, signs) {
  if (!figure) return "\u2013";
  const show = (value) => fixed(value * column.scale, column.digits);
  const put = (value) => (signs ? signed(show(value)) : show(value));
  return [
    put(figure.value),
    figure.interval &&
      make("span", { class: "interval" }, put(figure.interval.low) + " to " + put(figure.interval.high)),
  ];
}

/** Colour class of a model or an iteration, by its place. */
function colour(place) {
  return "k" + (place < 8 ? place : 1 + ((place - 1) % 7));
}
