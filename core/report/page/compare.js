// Several runs beside each other.

function compareSection(figures) {
  const of = figures.comparison;
  if (!of) return null;
  const place = (_, at) => at + 2;
  const all = of.table.columns.map((column) => column.key);
  // Names of models in order; a run without SFT has one less.
  const names =
    figures.runs.map((run) => run.table.rows.map((row) => row.name)).sort((a, b) => b.length - a.length)[0] || [];
  const curves = of.table.columns
    .map((column) => {
      const series = figures.runs.map((run, at) => {
        const number = run.table.columns.findIndex((one) => one.key === column.key);
        const points = run.table.rows
          .filter((row) => row.cells[number])
          .map((row) => [names.indexOf(row.name), row.cells[number].value * column.scale]);
        return { name: of.names[at], place: at + 2, points: points.filter((point) => point[0] >= 0) };
      });
      return series.some((one) => one.points.length > 1)
        ? lineChart({
            title: column.key === "win_rate" ? "win rate against its own first model" : column.heading,
            note: column.unit,
            x: "model",
            names,
            series,
            table: () =>
              table(
                ["model", ...of.names],
                names.map((name, x) => [
                  quoted(name),
                  ...series.map((one) => {
                    const point = one.points.find((p) => p[0] === x);
                    return point ? fixed(point[1], column.digits) : "\u2013";
                  }),
                ]),
              ),
          })
        : null;
    })
    .filter(Boolean);
  const measured = of.table.rows.map((row) => row.name);
  const label = (name) => of.names.find((one) => name.startsWith(one + ": ")) || name;
  return section(
    "compare",
    "Comparison",
    "The last model of each run. Differences are from " + of.names[0] + ", on the held-out prompts that both have.",
    of.against.map((one) => [
      make("h3", { class: "sub" }, quoted(one.name), " against ", quoted(of.names[0])),
      make(
        "p",
        { class: "small soft" },
        one.shared_prompts
          ? plural(one.shared_prompts, "held-out prompt") + " in common."
          : "No held-out prompts in common.",
      ),
      words(one.words),
    ]),
    figureTable(of.table, all, place, "Side by side", measured.map(label)),
    of.table.notes.map((note) => make("p", { class: "small soft" }, note)),
    curves.length
      ? [
          make("h3", { class: "sub" }, "From model to model"),
          legend(of.names.map((name, at) => ({ name, place: at + 2 }))),
          make("div", { class: "figures" }, curves),
        ]
      : null,
    make("h3", { class: "sub" }, "Settings that differ"),
    of.settings.length
      ? table(
          ["setting", ...of.names],
          of.settings.map((setting) => [setting.key, ...setting.values.map(settingText)]),
          { class: "settings" },
        )
      : make("p", {}, "None: these runs have the same config, plugins and seed model."),
  );
}
