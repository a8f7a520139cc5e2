// Several runs beside each other.

function compareSection(figures) {
  const of = figures.comparison;
  if (!of) return null;
  const place = (_, at) => at + 2;
  const all = of.table.columns.map((column) => column.key);
  const curves = of.table.columns.map((column) => {
    const series = figures.runs.map((run, at) => {
      const number = run.table.columns.findIndex((one) => one.key === column.key);
      const points = run.table.rows.map((row, x) => [x, row.cells[number]?.value]).filter((point) => point[1] !== undefined).map(([x, y]) => [x, y * column.scale]);
      return { name: of.names[at], place: at + 2, points };
    });
    const names = figures.runs.map((run) => run.table.rows.map((row) => row.name)).sort((a, b) => b.length - a.length)[0] || [];
    return series.some((one) => one.points.length > 1) ? lineChart({ title: column.key === "win_rate" ? "win rate against its own seed" : column.heading, note: column.unit, x: "model", ticks: names, series,
      table: () => table(["model", ...of.names], names.map((name, x) => [name, ...series.map((one) => { const point = one.points.find((p) => p[0] === x); return point ? fixed(point[1], column.digits) : "\u2013"; })])) }) : null;
  }).filter(Boolean);
  return section("compare", "Comparison", "The last model of each run; differences are from " + of.names[0] + ". " + plural(of.shared_prompts, "held-out prompt") + " in common.",
    words(of.words), figureTable(of.table, all, place, null), of.table.notes.map((note) => make("p", { class: "small soft" }, note)),
    curves.length ? [make("h3", { class: "sub" }, "From model to model"), legend(of.names.map((name, at) => ({ name, place: at + 2 }))), make("p", { class: "small soft" }, "The horizontal axis counts models: " + (figures.runs[0].table.rows.map((row, at) => at + " " + row.name).join(", ")) + "."), make("div", { class: "figures" }, curves)] : null,
    make("h3", { class: "sub" }, "Settings that differ"),
    of.settings.length ? table(["setting", ...of.names], of.settings.map((setting) => [setting.key, ...setting.values.map(settingText)]), { class: "settings" }) : make("p", {}, "None: these runs have the same config, plugins and seed model."));
}
