// The texts behind the figures: pick a prompt, see everything that was recorded of it. Records lie compressed in blocks of
// the page and are unpacked when they are asked for.

const unpacked = new Map();

/** The content of a block, unpacked once. */
function block(id) {
  if (!unpacked.has(id)) unpacked.set(id, unpack(id));
  // Only a few packs are kept: a page may hold more records than a phone holds memory.
  if (unpacked.size > 12)
    unpacked.delete([...unpacked.keys()].find((key) => /-\d+$/.test(key) && key !== id && !/iteration-\d+$/.test(key)));
  return unpacked.get(id);
}

async function unpack(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error("This file is cut: the block " + id + " is missing.");
  if (typeof DecompressionStream === "undefined")
    throw new Error("This browser cannot unpack records; one from 2023 or later can.");
  const letters = atob(element.textContent);
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const FILTERS = [
  ["all", "All prompts", () => true],
  ["actor", "With an actor pair", (entry) => entry.actor === true],
  ["no-actor", "Without an actor pair", (entry) => entry.actor === false],
  ["judge", "With a judge pair", (entry) => entry.judge === true],
  ["no-judge", "Without a judge pair", (entry) => entry.judge === false],
  ["unreadable", "With something unreadable", (entry) => entry.unreadable > 0],
  ["order", "Where the order decides a battle", (entry) => entry.order_decides > 0],
];
const PAGE = 50;

/** The browser of a run's records: its section, and a function that opens a place with a filter. */
function browser(run, remember) {
  let place = null,
    entries = [],
    found = [],
    first = 0,
    current = null;
  const places = make(
    "select",
    { "aria-label": "Iteration", onchange: () => choose(Number(places.value), "all") },
    run.places.map((one, at) =>
      make("option", { value: at }, one.iteration === null ? "Held-out prompts" : "Iteration\u00a0" + one.iteration),
    ),
  );
  const filters = make("select", { "aria-label": "Filter", onchange: () => list() });
  const search = make("input", {
    type: "search",
    placeholder: "Search prompts",
    "aria-label": "Search prompts",
    oninput: () => list(),
  });
  const items = make("ol", {}),
    pager = make("div", { class: "pager" }),
    opened = make("div", { class: "opened" });
  const whole = make("div", { class: "browser" }, make("div", { class: "list" }, items, pager), opened);
  const limited = make("p", { class: "small soft" });
  const element = section(
    "browse",
    "Browse",
    "Every text behind the figures. Signs that hide or turn text are shown as such.",
    make("div", { class: "controls" }, places, filters, search),
    limited,
    whole,
  );

  function failed(error) {
    opened.replaceChildren(make("div", { class: "notice" }, error.message));
  }

  async function choose(at, filter, id) {
    place = run.places[at];
    places.value = at;
    limited.replaceChildren(
      ...shown(
        place.shown < place.prompts
          ? "This file holds the records of " + fixed(place.shown, 0) + " of " + fixed(place.prompts, 0) + " prompts."
          : "",
      ),
    );
    try {
      entries = await block(place.key);
    } catch (error) {
      return failed(error);
    }
    if (place !== run.places[at]) return;
    const scores = [...new Set(entries.flatMap((entry) => entry.scores))].sort((a, b) => a - b);
    const options = [
      ...FILTERS.filter(([key, , keep]) => key === "all" || entries.some(keep)).map(([key, name]) => [key, name]),
      ...scores.map((at) => ["score:" + at, "With a judgment of " + score(at)]),
    ];
    filters.replaceChildren(...options.map(([key, name]) => make("option", { value: key }, name)));
    filters.value = options.some(([key]) => key === filter) ? filter : "all";
    if (id !== undefined) search.value = "";
    list(id);
  }

  /** Lists what passes the filter and the search, and opens one of it. */
  function list(id) {
    const wanted = search.value.toLowerCase();
    const keep = filters.value.startsWith("score:")
      ? (
          (at) => (entry) =>
            entry.scores.includes(at)
        )(Number(filters.value.slice(6)))
      : FILTERS.find(([key]) => key === filters.value)[2];
    found = entries.filter(
      (entry) =>
        keep(entry) &&
        (!wanted ||
          entry.text.toLowerCase().includes(wanted) ||
          entry.id.toLowerCase().includes(wanted) ||
          (entry.category || "").toLowerCase().includes(wanted)),
    );
    const at = Math.max(
      0,
      found.findIndex((entry) => entry.id === id),
    );
    first = at - (at % PAGE);
    turn();
    if (found.length) open(found[at], id !== undefined);
    else opened.replaceChildren(make("p", { class: "soft" }, "No prompt passes the filter and the search."));
  }

  function turn() {
    const page = found.slice(first, first + PAGE);
    items.replaceChildren(
      ...page.map((entry) =>
        make(
          "li",
          {},
          make(
            "button",
            { "aria-current": entry.id === current, onclick: () => open(entry, true), "data-id": entry.id },
            make("span", { class: "beginning", dir: "auto" }, entry.text),
            make("span", { class: "small soft" }, [
              entry.category && [quoted(entry.category), " \u00b7 "],
              entry.scores.length
                ? "scores " + score(entry.scores[0]) + "\u2013" + score(entry.scores.at(-1))
                : "no scores",
              entry.actor === false ? " \u00b7 no actor pair" : "",
              entry.judge === false ? " \u00b7 no judge pair" : "",
            ]),
          ),
        ),
      ),
    );
    const move = (by) => () => {
      first += by;
      turn();
      items.scrollTop = 0;
    };
    pager.replaceChildren(
      make("button", { disabled: first === 0, onclick: move(-PAGE), "aria-label": "Earlier prompts" }, "\u2190"),
      found.length
        ? fixed(first + 1, 0) +
            "\u2013" +
            fixed(Math.min(first + PAGE, found.length), 0) +
            " of " +
            fixed(found.length, 0)
        : "0",
      make(
        "button",
        { disabled: first + PAGE >= found.length, onclick: move(PAGE), "aria-label": "Later prompts" },
        "\u2192",
      ),
    );
  }

  async function open(entry, scroll) {
    current = entry.id;
    for (const button of items.querySelectorAll("button"))
      button.setAttribute("aria-current", button.dataset.id === plain(current));
    let pack;
    try {
      pack = await block(place.key + "-" + entry.pack);
    } catch (error) {
      return failed(error);
    }
    if (current !== entry.id) return;
    const records = pack.find((one) => one.prompt.id === entry.id);
    whole.classList.toggle("shown", scroll);
    opened.replaceChildren(
      ...(place.iteration === null ? heldOut(run, records) : ofIteration(run, place.iteration, records))
        .flat(Infinity)
        .filter(Boolean),
    );
    if (scroll) {
      remember(place.iteration === null ? "held-out" : "iteration-" + place.iteration, entry.id);
      if (innerWidth < 736) opened.scrollIntoView();
    }
  }

  const browse = (iteration, filter, id) => {
    const at = run.places.findIndex((one) => one.iteration === iteration);
    if (at < 0) return;
    search.value = "";
    choose(at, filter || "all", id);
    if (id === undefined) element.scrollIntoView();
  };
  // Blocks stand after the script, so none is there before the file is read to its end.
  if (run.places.length && document.readyState === "loading")
    addEventListener("DOMContentLoaded", () => choose(0, "all"), { once: true });
  else if (run.places.length) choose(0, "all");
  return { element: run.places.length ? element : null, browse };
}
