// What every section needs, and the first: what came out, in words.

const percentColumn = { scale: 100, digits: 1 };

/** The place of a model among the run's models: its colour. */
function modelPlace(run, name) {
  if (name === "seed") return 0;
  if (name === "sft") return 1;
  const number = /^M(\d+)$/.exec(name);
  return number ? 1 + Number(number[1]) : 0;
}

function statistics(stages, stage) {
  return stages.find((one) => one.stage === stage)?.statistics;
}

/** A section with its place in the navigation. */
function section(id, title, lead, ...content) {
  return make(
    "section",
    { id, "data-title": title },
    make("h2", {}, title),
    lead && make("p", { class: "lead" }, lead),
    content,
  );
}

function summary(run) {
  const { table: models } = run;
  const last = models.rows.length - 1;
  const cards = models.columns
    .map((column, place) => {
      const cell = models.rows[last]?.cells[place],
        first = models.rows[models.base]?.cells[place],
        change = models.rows[last]?.changes[place];
      if (!cell || last === models.base) return null;
      const unit = column.unit && !column.unit.startsWith("of ") ? column.unit : "";
      const moved = change?.interval && (change.interval.low > 0 || change.interval.high < 0);
      return make(
        "div",
        { class: "card" },
        make("div", { class: "name" }, column.heading),
        make(
          "div",
          { class: "value" },
          fixed(cell.value * column.scale, column.digits),
          make("span", { class: "unit" }, unit || column.unit),
        ),
        make(
          "div",
          { class: "note" },
          column.key === "win_rate"
            ? cell.interval
              ? fixed(cell.interval.low * 100, 1) + " to " + fixed(cell.interval.high * 100, 1)
              : "no interval"
            : [
                first ? "from " + fixed(first.value * column.scale, column.digits) : "",
                change ? " (" + signed(fixed(change.value * column.scale, column.digits)) + ")" : "",
              ],
          change?.interval ? (moved ? "" : " \u00b7 no clear change") : "",
        ),
      );
    })
    .filter(Boolean);
  return section(
    "summary",
    "Summary",
    last > models.base
      ? models.rows[last].name +
          " against " +
          models.rows[models.base].name +
          ", on " +
          plural(heldOutPrompts(run), "held-out prompt") +
          "."
      : "Nothing to compare yet.",
    cards.length ? make("div", { class: "cards" }, cards) : null,
    words(run.words),
    run.remarks.map((remark) => make("div", { class: "notice" }, remark)),
  );
}

function heldOutPrompts(run) {
  return run.places.find((place) => place.iteration === null)?.prompts || 0;
}

/** Sentences, each with what it claims in front. */
function words(sentences) {
  const claim = (sentence) =>
    / Higher: /.test(sentence)
      ? mark("higher", "up")
      : / Lower: /.test(sentence)
        ? mark("lower", "down")
        : /No difference can be claimed/.test(sentence)
          ? mark("no clear change")
          : / on the way: /.test(sentence)
            ? mark("on the way")
            : mark("note");
  return make(
    "ul",
    { class: "words" },
    sentences.map((sentence) => make("li", {}, claim(sentence), make("span", {}, sentence))),
  );
}
