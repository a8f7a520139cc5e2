// The page: header, navigation, sections, and the address that says what is open.

const figures = JSON.parse(document.getElementById("figures").textContent);
const page = document.getElementById("page");
let opened = null;

function header(run) {
  return make(
    "header",
    {},
    make(
      "h1",
      {},
      (figures.comparison?.names || figures.runs.map((one) => one.name)).map((name, at) => [
        at ? ", " : "",
        quoted(name),
      ]),
    ),
    make(
      "ul",
      { class: "facts" },
      (figures.runs.length > 1
        ? [plural(figures.runs.length, "run") + " compared"]
        : [
            run.card.architecture + ", " + plural(run.card.parameters, "parameter"),
            plural(run.iterations.length, "iteration") +
              (run.iterations.length < run.planned ? " of " + run.planned : ""),
            "seed " + run.seed,
            "folder " + plain(run.folder),
          ]
      ).map((fact) => make("li", {}, fact)),
    ),
  );
}

/** Shows a run below what compares all of them. */
function show(number) {
  const run = figures.runs[number];
  const remember = (place, id) => {
    try {
      history.replaceState(null, "", "#" + new URLSearchParams({ run: number, place, prompt: id }));
    } catch {
      /* An address that cannot be set is not worth an error. */
    }
  };
  const texts = browser(run, remember);
  const sections = [
    summary(run),
    modelsSection(run),
    categoriesSection(run),
    trainingSection(run),
    scoresSection(run, texts.browse),
    lengthsSection(run),
    metaSection(run, texts.browse),
    stagesSection(run, texts.browse),
    texts.element,
    setupSection(run),
  ].filter(Boolean);
  const compare = compareSection(figures);
  const runs = figures.comparison
    ? make(
        "div",
        { class: "runs", id: "run" },
        make("span", {}, "What follows is of"),
        figures.comparison.names.map((name, at) =>
          make(
            "button",
            {
              "aria-pressed": at === number,
              onclick: () => {
                const y = scrollY;
                show(at);
                scrollTo(0, y);
              },
            },
            name,
          ),
        ),
      )
    : null;
  const nav = make(
    "nav",
    { "aria-label": "Sections" },
    [compare, ...sections].filter(Boolean).map((one) => make("a", { href: "#" + one.id }, one.dataset.title)),
  );
  page.replaceChildren(
    ...[
      header(run),
      nav,
      compare,
      runs,
      ...sections,
      make(
        "footer",
        {},
        "Made by metareward " +
          figures.version +
          ". This file needs no network and sends nothing. Intervals are bootstrap intervals over prompts; they cover the choice of prompts, not another training seed.",
      ),
    ].filter(Boolean),
  );
  return texts;
}

document.body.append(tip);
opened = show(0);
// Packs stand after the script: an address that names a prompt is followed when they are there.
addEventListener("DOMContentLoaded", () => {
  const address = new URLSearchParams(location.hash.slice(1));
  if (address.has("prompt")) {
    const number = Number(address.get("run")) || 0;
    if (number && figures.runs[number]) opened = show(number);
    const place = /^iteration-(\d+)$/.exec(address.get("place"));
    opened.browse(place ? Number(place[1]) : null, "all", address.get("prompt"));
  }
  document.documentElement.dataset.ready = "yes";
});
