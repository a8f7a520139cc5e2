// Every model on the same prompts: the tables of the paper, and win rates by category.

/** A table of figures as a table, and each of its columns as a picture. */
function figureTable(models, keys, places, title, labels) {
  const columns = models.columns
    .map((column, place) => ({ column, place }))
    .filter(({ column, place }) => keys.includes(column.key) && models.rows.some((row) => row.cells[place]));
  if (!columns.length) return null;
  const heading = (column) => [
    column.heading,
    column.unit && make("span", { class: "soft" }, " (" + column.unit + ")"),
  ];
  const n = (row, place) => row.cells[place]?.n;
  const rows = models.rows.map((row) => [
    quoted(row.name),
    ...columns.map(({ column, place }) => figureCell(row.cells[place], column)),
  ]);
  const changes = models.rows
    .filter((_, place) => place !== models.base)
    .map((row) => [
      quoted(row.name),
      ...columns.map(({ column, place }) => figureCell(row.changes[place], column, true)),
    ]);
  const pictures = columns.map(({ column, place }) =>
    dotChart({
      title: column.heading,
      note: column.unit,
      label: column.heading + " per model",
      guide: column.key === "win_rate" ? 50 : undefined,
      rows: models.rows.map((row, at) => {
        const cell = row.cells[place];
        if (!cell) return { value: null };
        const show = (value) => fixed(value * column.scale, column.digits);
        return {
          name: labels ? labels[at] : row.name,
          place: places(row.name, at),
          value: cell.value * column.scale,
          shown: show(cell.value),
          low: cell.interval ? cell.interval.low * column.scale : null,
          high: cell.interval ? cell.interval.high * column.scale : null,
          text:
            plain(row.name) +
            "\n" +
            show(cell.value) +
            " " +
            column.unit +
            (cell.interval ? "\n" + show(cell.interval.low) + " to " + show(cell.interval.high) : "") +
            "\nn = " +
            fixed(cell.n, 0) +
            ", " +
            fixed(cell.prompts, 0) +
            " prompts",
        };
      }),
    }),
  );
  return [
    title && make("h3", { class: "sub" }, title),
    table(["", ...columns.map(({ column }) => heading(column))], rows),
    folded("Number of measurements", () =>
      table(
        ["", ...columns.map(({ column }) => column.heading)],
        models.rows.map((row) => [quoted(row.name), ...columns.map(({ place }) => fixed(n(row, place), 0))]),
      ),
    ),
    changes.length
      ? folded("Differences from " + models.rows[models.base].name + ", on the same prompts", () =>
          table(["", ...columns.map(({ column }) => heading(column))], changes),
        )
      : null,
    make("div", { class: "figures four" }, pictures),
  ];
}

function modelsSection(run) {
  const places = (name) => modelPlace(run, name);
  const answers = figureTable(
    run.table,
    ["points", "perfect", "win_rate", "length"],
    places,
    "As actors: their answers",
  );
  const judges = figureTable(
    run.table,
    ["judge_score", "agreement", "agreement_without_ties", "spearman"],
    places,
    "As judges: agreement with the oracle",
  );
  if (!answers && !judges) return null;
  return section(
    "models",
    "Models",
    "Every model on the same held-out prompts. Small numbers are " +
      fixed(run.table.level * 100, 0) +
      " % intervals over prompts.",
    answers,
    judges,
    run.table.notes.map((note) => make("p", { class: "small soft" }, note)),
  );
}

function categoriesSection(run) {
  const of = run.categories;
  if (!of) return null;
  const panel = make("div", {});
  const show = (at) =>
    panel.replaceChildren(
      dotChart({
        title: "Win rate of " + of.models[at] + " against " + of.opponent,
        note: "%",
        guide: 50,
        rows: of.rows
          .map((row) => ({ row, cell: row.cells[at] }))
          .filter(({ cell }) => cell)
          .sort((a, b) => b.cell.value - a.cell.value)
          .map(({ row, cell }) => ({
            name: row.category,
            place: modelPlace(run, of.models[at]),
            value: 100 * cell.value,
            shown: fixed(100 * cell.value, 1),
            low: cell.interval ? 100 * cell.interval.low : null,
            high: cell.interval ? 100 * cell.interval.high : null,
            text:
              plain(row.category) +
              "\n" +
              percent(cell.value) +
              (cell.interval
                ? "\n" + percent(cell.interval.low) + " to " + percent(cell.interval.high)
                : "\ntoo few prompts for an interval") +
              "\n" +
              plural(cell.prompts, "prompt"),
          })),
        table: () =>
          table(
            ["category", "prompts", ...of.models],
            of.rows.map((row) => [
              quoted(row.category),
              fixed(row.cells.find(Boolean)?.prompts ?? 0, 0),
              ...row.cells.map((cell) => figureCell(cell, percentColumn)),
            ]),
          ),
      }),
    );
  const select = make(
    "select",
    { "aria-label": "Model", onchange: (event) => show(Number(event.target.value)) },
    of.models.map((name, place) => make("option", { value: place, selected: place === of.models.length - 1 }, name)),
  );
  show(of.models.length - 1);
  return section(
    "categories",
    "Win rate by category",
    "Answers compared with those of " + of.opponent + " by the oracle's points, a tie as half a win.",
    make("div", { class: "controls" }, select),
    panel,
  );
}
