// The sections of one run.

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
  return make("section", { id, "data-title": title }, make("h2", {}, title), lead && make("p", { class: "lead" }, lead), content);
}

function summary(run) {
  const { table: models } = run;
  const last = models.rows.length - 1;
  const cards = models.columns.map((column, place) => {
    const cell = models.rows[last]?.cells[place], first = models.rows[models.base]?.cells[place], change = models.rows[last]?.changes[place];
    if (!cell || last === models.base) return null;
    const unit = column.unit && !column.unit.startsWith("of ") ? column.unit : "";
    const moved = change?.interval && (change.interval.low > 0 || change.interval.high < 0);
    return make("div", { class: "card" },
      make("div", { class: "name" }, column.heading),
      make("div", { class: "value" }, fixed(cell.value * column.scale, column.digits), make("span", { class: "unit" }, unit || column.unit)),
      make("div", { class: "note" },
        column.key === "win_rate" ? (cell.interval ? fixed(cell.interval.low * 100, 1) + " to " + fixed(cell.interval.high * 100, 1) : "no interval")
          : [first ? "from " + fixed(first.value * column.scale, column.digits) : "",
            change ? " (" + signed(fixed(change.value * column.scale, column.digits)) + ")" : ""],
        change?.interval ? (moved ? "" : " \u00b7 no clear change") : ""));
  }).filter(Boolean);
  return section("summary", "Summary", last > models.base
    ? models.rows[last].name + " against " + models.rows[models.base].name + ", on " + plural(heldOutPrompts(run), "held-out prompt") + "."
    : "Nothing to compare yet.",
    cards.length ? make("div", { class: "cards" }, cards) : null,
    words(run.words),
    run.remarks.map((remark) => make("div", { class: "notice" }, remark)));
}

function heldOutPrompts(run) {
  return run.places.find((place) => place.iteration === null)?.prompts || 0;
}

/** Sentences, each with what it claims in front. */
function words(sentences) {
  const claim = (sentence) => / Higher: /.test(sentence) ? mark("higher", "up") : / Lower: /.test(sentence) ? mark("lower", "down")
    : /No difference can be claimed/.test(sentence) ? mark("no clear change") : / on the way: /.test(sentence) ? mark("on the way") : mark("note");
  return make("ul", { class: "words" }, sentences.map((sentence) => make("li", {}, claim(sentence), make("span", {}, sentence))));
}

/** A table of figures as a table, and each of its columns as a picture. */
function figureTable(models, keys, places, title, labels) {
  const columns = models.columns.map((column, place) => ({ column, place })).filter(({ column, place }) =>
    keys.includes(column.key) && models.rows.some((row) => row.cells[place]));
  if (!columns.length) return null;
  const heading = (column) => [column.heading, column.unit && make("span", { class: "soft" }, " (" + column.unit + ")")];
  const n = (row, place) => row.cells[place]?.n;
  const rows = models.rows.map((row) => [quoted(row.name), ...columns.map(({ column, place }) => figureCell(row.cells[place], column))]);
  const changes = models.rows.filter((_, place) => place !== models.base).map((row) =>
    [quoted(row.name), ...columns.map(({ column, place }) => figureCell(row.changes[place], column, true))]);
  const pictures = columns.map(({ column, place }) => dotChart({
    title: column.heading, note: column.unit, label: column.heading + " per model",
    guide: column.key === "win_rate" ? 50 : undefined,
    rows: models.rows.map((row, at) => {
      const cell = row.cells[place];
      if (!cell) return { value: null };
      const show = (value) => fixed(value * column.scale, column.digits);
      return { name: labels ? labels[at] : row.name, place: places(row.name, at), value: cell.value * column.scale, shown: show(cell.value),
        low: cell.interval ? cell.interval.low * column.scale : null, high: cell.interval ? cell.interval.high * column.scale : null,
        text: plain(row.name) + "\n" + show(cell.value) + " " + column.unit + (cell.interval ? "\n" + show(cell.interval.low) + " to " + show(cell.interval.high) : "") + "\nn = " + fixed(cell.n, 0) + ", " + fixed(cell.prompts, 0) + " prompts" };
    }),
  }));
  return [
    title && make("h3", { class: "sub" }, title),
    table(["", ...columns.map(({ column }) => heading(column))], rows),
    folded("Number of measurements", () => table(["", ...columns.map(({ column }) => column.heading)],
      models.rows.map((row) => [quoted(row.name), ...columns.map(({ place }) => fixed(n(row, place), 0))]))),
    changes.length ? folded("Differences from " + models.rows[models.base].name + ", on the same prompts", () => table(["", ...columns.map(({ column }) => heading(column))], changes)) : null,
    make("div", { class: "figures four" }, pictures),
  ];
}

function modelsSection(run) {
  const places = (name) => modelPlace(run, name);
  const answers = figureTable(run.table, ["points", "perfect", "win_rate", "length"], places, "As actors: their answers");
  const judges = figureTable(run.table, ["judge_score", "agreement", "agreement_without_ties", "spearman"], places, "As judges: agreement with the oracle");
  if (!answers && !judges) return null;
  return section("models", "Models", "Every model on the same held-out prompts. Small numbers are " + fixed(run.table.level * 100, 0) + " % intervals over prompts.",
    answers, judges, run.table.notes.map((note) => make("p", { class: "small soft" }, note)));
}

function categoriesSection(run) {
  const of = run.categories;
  if (!of) return null;
  const panel = make("div", {});
  const show = (at) => panel.replaceChildren(dotChart({
    title: "Win rate of " + of.models[at] + " against " + of.opponent, note: "%", guide: 50,
    rows: of.rows.map((row) => ({ row, cell: row.cells[at] })).filter(({ cell }) => cell).sort((a, b) => b.cell.value - a.cell.value).map(({ row, cell }) => ({
      name: row.category, place: modelPlace(run, of.models[at]), value: 100 * cell.value, shown: fixed(100 * cell.value, 1),
      low: cell.interval ? 100 * cell.interval.low : null, high: cell.interval ? 100 * cell.interval.high : null,
      text: plain(row.category) + "\n" + percent(cell.value) + (cell.interval ? "\n" + percent(cell.interval.low) + " to " + percent(cell.interval.high) : "\ntoo few prompts for an interval") + "\n" + plural(cell.prompts, "prompt") })),
    table: () => table(["category", "prompts", ...of.models], of.rows.map((row) => [quoted(row.category), fixed(row.cells.find(Boolean)?.prompts ?? 0, 0), ...row.cells.map((cell) => figureCell(cell, percentColumn))])),
  }));
  const select = make("select", { "aria-label": "Model", onchange: (event) => show(Number(event.target.value)) },
    of.models.map((name, place) => make("option", { value: place, selected: place === of.models.length - 1 }, name)));
  show(of.models.length - 1);
  return section("categories", "Win rate by category", "Answers compared with those of " + of.opponent + " by the oracle's points, a tie as half a win.", make("div", { class: "controls" }, select), panel);
}

const CURVES = [
  { key: "loss", title: "Loss" }, { key: "margin", title: "Margin", note: "implicit reward, chosen minus rejected" },
  { key: "rewards", title: "Implicit rewards", note: "chosen solid, rejected dashed" },
  { key: "accuracy", title: "Accuracy", note: "chosen ahead of rejected" },
  { key: "gradient_norm", title: "Gradient norm", note: "before clipping" },
  { key: "learning_rate", title: "Learning rate" },
];

function trainingSection(run) {
  if (!run.trainings.length) return null;
  const preference = run.trainings.filter((one) => one.steps.some((step) => step.margin !== undefined));
  const others = run.trainings.filter((one) => !preference.includes(one));
  const points = (training, key) => training.steps.filter((step) => step[key] !== undefined && step[key] !== null).map((step) => [step.step, step[key]]);
  const charts = (trainings) => CURVES.map((curve) => {
    const of = (key, dash, suffix) => trainings.map((training) => ({ name: training.name + suffix, place: modelPlace(run, training.name), dash, points: points(training, key) }));
    const series = (curve.key === "rewards" ? [...of("reward_chosen", false, " chosen"), ...of("reward_rejected", true, " rejected")] : of(curve.key, false, "")).filter((one) => one.points.length);
    return series.length ? lineChart({ ...curve, x: "step", series, lines: curve.key === "loss" && trainings === preference ? [{ at: Math.LN2, name: "ln 2" }] : [] }) : null;
  }).filter(Boolean);
  const block = (trainings, title) => trainings.length ? [title && make("h3", { class: "sub" }, title),
    legend(trainings.map((training) => ({ name: training.name, place: modelPlace(run, training.name) }))), make("div", { class: "figures" }, charts(trainings))] : null;
  const rows = [["sft", { stages: run.sft }], ...run.iterations.map((one) => ["M" + one.iteration, one])]
    .map(([name, one]) => [name, one?.stages && statistics(one.stages, "training")]).filter((pair) => pair[1]);
  return section("training", "Training", "Each step's value is pale; the line is a moving mean.",
    block(preference, others.length ? "On preferences" : null), block(others, "On examples"),
    rows.length ? [make("h3", { class: "sub" }, "Trainings"), table(["", "examples", "actor pairs", "judge pairs", "steps", "first loss", "last epoch's loss", "epoch kept", "cut at the largest length"],
      rows.map(([name, of]) => [name, fixed(of.examples, 0), fixed(of.actor_pairs, 0), fixed(of.judge_pairs, 0), fixed(of.steps, 0), fixed(of.first_loss, 4), fixed(of.epochs.at(-1)?.train_loss, 4), of.kept, fixed(of.truncated, 0)]))] : null);
}

/** Histograms of scores, one per iteration or model, with the same axes. */
function histograms(panels, onpick) {
  const scores = [...new Set(panels.flatMap((panel) => panel.of.histogram.map((bar) => bar.score)))].sort((a, b) => a - b);
  if (!scores.length) return null;
  const step = scores.reduce((gap, at, place) => (place ? Math.min(gap, at - scores[place - 1]) : gap), 1);
  const domain = [Math.min(...scores), Math.max(...scores)];
  const whole = scores.filter(Number.isInteger);
  const labels = whole.length > 12 ? ticks(domain[0], domain[1], 6) : whole;
  const total = (of) => of.histogram.reduce((sum, bar) => sum + bar.count, 0);
  const most = Math.max(...panels.flatMap((panel) => panel.of.histogram.map((bar) => bar.count / total(panel.of))));
  return [make("div", { class: "figures narrow" }, panels.map((panel) => barChart({
    title: panel.name, note: "mean " + fixed(panel.of.score.sum / panel.of.score.count, 2), label: "Scores given by " + panel.name, place: panel.place, domain, step: Math.max(step, (domain[1] - domain[0]) / 60 || 1), most, labels,
    mean: panel.of.score.sum / panel.of.score.count, onpick: onpick && ((bar) => onpick(panel, bar.at)),
    bars: panel.of.histogram.map((bar) => ({ at: bar.score, share: bar.count / total(panel.of), text: "score " + score(bar.score) + "\n" + fixed(bar.count, 0) + " of " + fixed(total(panel.of), 0) + " judgments\n" + percent(bar.count / total(panel.of)) })),
  }))), folded("Numbers", () => table(["", ...scores.map(score), "mean", "top score", "entropy, bits", "unreadable"],
    panels.map((panel) => [panel.name, ...scores.map((at) => fixed(panel.of.histogram.find((bar) => bar.score === at)?.count ?? 0, 0)),
      fixed(panel.of.score.sum / panel.of.score.count, 3), percent(panel.of.top.of ? panel.of.top.count / panel.of.top.of : null), fixed(panel.of.entropy, 2), fixed(unreadable(panel.of), 0)])))];
}

function unreadable(of) {
  return Object.values(of.unreadable).reduce((sum, count) => sum + count, 0);
}

function scoresSection(run, browse) {
  const own = run.iterations.map((one) => ({ name: "Iteration\u00a0" + one.iteration, place: modelPlace(run, one.model), of: statistics(one.stages, "judgments"), iteration: one.iteration })).filter((panel) => panel.of?.score.count);
  const held = run.evaluations.map((one) => ({ name: one.name, place: modelPlace(run, one.name), of: statistics(one.stages, "judgments"), iteration: null })).filter((panel) => panel.of?.score.count);
  if (!own.length && !held.length) return null;
  const pick = (panel, at) => browse(panel.iteration, "score:" + at);
  return section("scores", "Scores", "Shares in per cent; the small mark is the mean. A judge that gives one score to everything teaches nothing.",
    own.length ? [make("h3", {}, "Given by each iteration's model to its own answers"), histograms(own, pick)] : null,
    held.length ? [make("h3", { class: "sub" }, "Given by each model to the same held-out answers"), make("p", { class: "small soft" }, "The answers are those of " + run.base_model + ", so a shift is the judge's alone."), histograms(held, pick)] : null,
    own.length ? [make("h3", { class: "sub" }, "Rewards"), make("p", { class: "small soft" }, "Mean score of each distinct response, in bins of a quarter."), rewards(run)] : null);
}

function rewards(run) {
  const of = run.iterations.filter((one) => one.rewards.length);
  const edges = of.flatMap((one) => one.rewards.map((bin) => bin[0]));
  const domain = [Math.min(...edges) + 0.125, Math.max(...edges) + 0.125];
  const total = (one) => one.rewards.reduce((sum, bin) => sum + bin[1], 0);
  const most = Math.max(...of.flatMap((one) => one.rewards.map((bin) => bin[1] / total(one))));
  return [make("div", { class: "figures narrow" }, of.map((one) => barChart({ title: "Iteration\u00a0" + one.iteration, place: modelPlace(run, one.model), domain, step: 0.25, most,
    labels: ticks(Math.floor(domain[0]), Math.ceil(domain[1]), 5).filter((at) => Number.isInteger(at) && at >= domain[0] - 0.13 && at <= domain[1] + 0.13),
    bars: one.rewards.map(([low, count]) => ({ at: low + 0.125, share: count / total(one), text: score(low) + " to " + score(low + 0.25) + "\n" + fixed(count, 0) + " of " + plural(total(one), "response") + "\n" + percent(count / total(one)) })) }))),
    folded("Numbers", () => { const all = [...new Set(edges)].sort((a, b) => a - b);
      return table(["from", ...of.map((one) => "iteration " + one.iteration)], all.map((low) => [score(low), ...of.map((one) => fixed(one.rewards.find((bin) => bin[0] === low)?.[1] ?? 0, 0))])); })];
}

function lengthsSection(run) {
  const rows = run.iterations.flatMap((one) => one.lengths.map((of) => ({ iteration: one.iteration, place: modelPlace(run, one.model), of })));
  if (!rows.length) return null;
  const panel = (what, title) => {
    const own = rows.filter((row) => row.of.of === what);
    if (!own.length) return null;
    const every = rows.flatMap((row) => [row.of.quantiles.p10, row.of.quantiles.p90]);
    return dotChart({ title, range: range(every, 0.06), rows: own.map(({ iteration, place, of }) => ({ name: "Iteration\u00a0" + iteration, place, value: of.quantiles.p50, low: of.quantiles.p10, high: of.quantiles.p90,
      inner: [of.quantiles.p25, of.quantiles.p75], shown: fixed(of.mean, 0), text: "iteration " + iteration + ", " + what + "\nmedian " + short(of.quantiles.p50) + ", mean " + fixed(of.mean, 1) + "\nmiddle half " + short(of.quantiles.p25) + " to " + short(of.quantiles.p75) + "\ntenth to nine tenths " + short(of.quantiles.p10) + " to " + short(of.quantiles.p90) + "\nn = " + fixed(of.n, 0) })) });
  };
  return section("lengths", "Lengths", "Characters. Dot: median; thick: middle half; thin: from a tenth to nine tenths; the number is the mean.",
    make("div", { class: "figures" }, panel("responses", "Distinct responses"), panel("chosen", "Chosen"), panel("rejected", "Rejected")),
    folded("Numbers", () => table(["", "texts", "n", "mean", "10 %", "25 %", "median", "75 %", "90 %"], rows.map(({ iteration, of }) =>
      ["Iteration\u00a0" + iteration, of.of, fixed(of.n, 0), fixed(of.mean, 1), ...["p10", "p25", "p50", "p75", "p90"].map((key) => fixed(of.quantiles[key], 1))]))));
}

/** Background between two colours around the half. */
function tint(cell, share) {
  const away = Math.min(1, Math.abs(share - 0.5) * 2);
  cell.style.backgroundColor = "rgba(var(" + (share >= 0.5 ? "--high" : "--low") + ")," + (0.06 + 0.5 * away).toFixed(2) + ")";
  return cell;
}

function metaSection(run, browse) {
  const of = run.iterations.filter((one) => one.position_bias);
  if (!of.length) return null;
  const keys = [["higher_wins", "higher score wins"], ["first_equal", "first wins, equal scores"], ["first_different", "first wins, different scores"], ["first", "first wins, all"], ["consistent", "same judgment wins in both orders"]];
  const heat = (one) => {
    const { scores, cells } = one.matrix;
    return make("div", { class: "wide" }, make("table", { class: "heat" }, make("caption", {}, "Iteration\u00a0" + one.iteration),
      make("thead", {}, make("tr", {}, make("th", {}, "1st \u2193 2nd \u2192"), scores.map((at) => make("th", { scope: "col" }, score(at))))),
      make("tbody", {}, scores.map((at, row) => make("tr", {}, make("th", { scope: "row" }, score(at)), scores.map((other, column) => {
        const [first, second, ties] = cells[row][column], decided = first + second;
        const text = "first scored " + score(at) + ", second " + score(other) + "\nfirst wins " + fixed(first, 0) + "\nsecond wins " + fixed(second, 0) + "\nneither " + fixed(ties, 0);
        const cell = make("td", hover(text), decided ? fixed((100 * first) / decided, 0) : "\u00b7");
        return decided ? tint(cell, first / decided) : cell;
      }))))));
  };
  const ratings = of.filter((one) => one.score_ratings.length);
  const weights = of.map((one) => [one, statistics(one.stages, "ratings")]).filter((pair) => pair[1]);
  return section("meta-judge", "Meta-judge", "Of decided verdicts. Without position bias the first place would win half; a meta-judge that reads scores prefers the higher one.",
    table(["", ...keys.map((key) => key[1] + " (%)")], of.map((one) => ["Iteration\u00a0" + one.iteration, ...keys.map(([key]) => figureCell(one.position_bias[key], percentColumn))])),
    folded("Number of verdicts", () => table(["", ...keys.map((key) => key[1])], of.map((one) => ["Iteration\u00a0" + one.iteration, ...keys.map(([key]) => fixed(one.position_bias[key]?.n, 0))]))),
    make("p", { class: "small" }, make("a", { href: "#browse", onclick: () => browse(of[0].iteration, "order") }, "See prompts where the order decides"), "."),
    make("h3", { class: "sub" }, "Who wins, by the two scores"), make("p", { class: "small soft" }, "How often the judgment shown first wins, in per cent of decided verdicts."),
    make("div", { class: "figures" }, of.map(heat)),
    weights.length ? [make("h3", { class: "sub" }, "Battles and ratings"), table(["", "rated responses", "weight of a win in the first place", "in the second", "not converged", "undefeated", "winless", "disconnected"],
      weights.map(([one, rated]) => ["Iteration\u00a0" + one.iteration, fixed(rated.rated, 0), fixed(rated.w1.sum / rated.w1.count, 3), fixed(rated.w2.sum / rated.w2.count, 3), fixed(rated.not_converged, 0), ...["undefeated", "winless", "disconnected"].map((key) => fixed(rated.remarks[key] ?? 0, 0))]))] : null,
    ratings.length ? [make("p", { class: "small soft" }, "Ratings of judgments by the score that they gave, minus the mean rating of their response's judgments. Dot: median; thick: middle half; thin: from a tenth to nine tenths."),
      make("div", { class: "figures" }, ratings.map((one) => dotChart({ title: "Iteration\u00a0" + one.iteration, guide: 0, rows: one.score_ratings.map((row) => ({ name: "score " + score(row.score), place: modelPlace(run, one.model), value: row.quantiles.p50, low: row.quantiles.p10, high: row.quantiles.p90, inner: [row.quantiles.p25, row.quantiles.p75], shown: signed(short(row.quantiles.p50)),
        text: "score " + score(row.score) + "\nmedian " + signed(short(row.quantiles.p50)) + ", mean " + signed(short(row.mean)) + "\nn = " + fixed(row.n, 0) })),
        table: () => table(["score", "n", "mean", "10 %", "25 %", "median", "75 %", "90 %"], one.score_ratings.map((row) => [score(row.score), fixed(row.n, 0), fixed(row.mean, 1), ...["p10", "p25", "p50", "p75", "p90"].map((key) => fixed(row.quantiles[key], 1))])) })))] : null);
}

function stagesSection(run, browse) {
  if (!run.iterations.length) return null;
  const count = (one, stage) => one.stages.find((of) => of.stage === stage)?.records;
  const rows = run.iterations.map((one) => {
    const responses = statistics(one.stages, "responses"), judgments = statistics(one.stages, "judgments"), verdicts = statistics(one.stages, "verdicts"), pairs = statistics(one.stages, "pairs");
    const lost = (of, all) => of ? [fixed(unreadable(of), 0), make("span", { class: "interval" }, percent(all ? unreadable(of) / all : 0, 2))] : "\u2013";
    return ["Iteration\u00a0" + one.iteration, fixed(count(one, "prompts"), 0), responses ? fixed(responses.responses, 0) : "\u2013", responses ? fixed(responses.duplicates, 0) : "\u2013",
      judgments ? fixed(judgments.judgments, 0) : "\u2013", lost(judgments, judgments?.judgments), verdicts ? fixed(verdicts.verdicts, 0) : "\u2013", lost(verdicts, verdicts?.verdicts), verdicts ? fixed(verdicts.ties, 0) : "\u2013",
      fixed(pairs?.actor?.pairs ?? null, 0), fixed(pairs?.judge?.pairs ?? null, 0)];
  });
  const none = run.iterations.flatMap((one) => {
    const pairs = statistics(one.stages, "pairs");
    return [["actor", pairs?.actor], ["judge", pairs?.judge]].flatMap(([kind, of]) => Object.entries(of?.none || {}).map(([reason, number]) => ["Iteration\u00a0" + one.iteration, kind, quoted(reason), make("a", { href: "#browse", onclick: () => browse(one.iteration, "no-" + kind) }, fixed(number, 0))]));
  });
  const reasons = run.iterations.flatMap((one) => [["judgments", statistics(one.stages, "judgments")], ["verdicts", statistics(one.stages, "verdicts")]].flatMap(([what, of]) =>
    Object.entries(of?.unreadable || {}).map(([reason, number]) => ["Iteration\u00a0" + one.iteration, what, reason.replaceAll("-", " "), make("a", { href: "#browse", onclick: () => browse(one.iteration, "unreadable") }, fixed(number, 0))])));
  const pairs = run.iterations.flatMap((one) => [["actor", statistics(one.stages, "pairs")?.actor], ["judge", statistics(one.stages, "pairs")?.judge]].filter((pair) => pair[1]?.pairs).map(([kind, of]) =>
    ["Iteration\u00a0" + one.iteration, kind, fixed(of.pairs, 0), fixed(of.chosen_length.sum / of.chosen_length.count, 1), fixed(of.rejected_length.sum / of.rejected_length.count, 1), of.unit, fixed(of.margin.sum / of.margin.count, 2)]));
  const effort = run.iterations.flatMap((one) => one.stages.filter((of) => of.seconds !== null).map((of) => ["Iteration\u00a0" + one.iteration, of.stage, fixed(of.records, 0), fixed(of.seconds, 1), fixed(of.tokens, 0), of.seconds > 0 && of.tokens ? fixed(of.tokens / of.seconds, 0) : "\u2013"]));
  return section("stages", "Stages", "What went in, what came out, and what was lost on the way.",
    table(["", "prompts", "responses", "of them duplicates", "judgments", "of them unreadable", "verdicts", "of them unreadable", "of them ties", "actor pairs", "judge pairs"], rows),
    pairs.length ? [make("h3", { class: "sub" }, "Pairs"), table(["", "kind", "pairs", "chosen, mean length", "rejected, mean length", "unit", "mean margin of reward or rating"], pairs, { class: "left1" })] : null,
    none.length ? [make("h3", { class: "sub" }, "Prompts without a pair"), table(["", "kind", "why", "prompts"], none, { class: "left2" })] : null,
    reasons.length ? [make("h3", { class: "sub" }, "Unreadable"), make("p", { class: "small soft" }, "They count nowhere."), table(["", "what", "why", "number"], reasons, { class: "left2" })] : null,
    effort.length ? folded("Time and tokens", () => table(["", "stage", "records", "seconds", "tokens computed", "tokens per second"], effort, { class: "left1" })) : null);
}

function flatten(value, prefix = "") {
  if (value === null || typeof value !== "object" || Array.isArray(value) || !Object.keys(value).length) return [[prefix, value]];
  return Object.entries(value).flatMap(([key, inner]) => flatten(inner, prefix ? prefix + "." + key : key));
}

function settingText(value) {
  return value === undefined || value === null ? "\u2013" : typeof value === "string" ? value : JSON.stringify(value);
}

function setupSection(run) {
  const plugins = run.plugins.flatMap((use) => {
    const seen = [];
    use.iterations.forEach((plugin, place) => {
      const text = JSON.stringify(plugin);
      if (seen.at(-1)?.text === text) seen.at(-1).to = place + 1; else seen.push({ text, plugin, from: place + 1, to: place + 1 });
    });
    return seen.map(({ plugin, from, to }) => [use.section, from === to ? String(from) : from + " to " + to, [quoted(plugin.info.name), " " + plugin.info.version], typeof plugin.form === "string" ? plugin.form : JSON.stringify(plugin.form), plugin.sha256 ? plugin.sha256.slice(0, 12) : "\u2013", JSON.stringify(plugin.options)]);
  });
  return section("setup", "What ran", null,
    table(["", ""], [["Experiment", quoted(run.name)], ["Run folder", quoted(run.folder)], ["Seed", String(run.seed)], ["metareward", run.version], ["Seed model", run.card.architecture + ", " + plural(run.card.parameters, "parameter") + ", context " + fixed(run.card.context, 0)], ["Its fingerprint", run.fingerprint.slice(0, 16)],
      ...Object.entries(run.machine).map(([key, value]) => [key, value])], { class: "settings" }),
    plugins.length ? folded("Plugins and their options", () => table(["section", "iterations", "plugin", "form", "sha256", "options"], plugins, { class: "settings" })) : null,
    folded("Config as resolved", () => table(["key", "value"], flatten(run.config).map(([key, value]) => [key, settingText(value)]), { class: "settings" })));
}
