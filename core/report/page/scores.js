// Scores, rewards and lengths.

/** Histograms of scores, one per iteration or model, with the same axes. */
function histograms(panels, onpick) {
  const scores = [...new Set(panels.flatMap((panel) => panel.of.histogram.map((bar) => bar.score)))].sort(
    (a, b) => a - b,
  );
  if (!scores.length) return null;
  const step = scores.reduce((gap, at, place) => (place ? Math.min(gap, at - scores[place - 1]) : gap), 1);
  const domain = [Math.min(...scores), Math.max(...scores)];
  const whole = scores.filter(Number.isInteger);
  const labels = whole.length > 12 ? ticks(domain[0], domain[1], 6) : whole;
  const total = (of) => of.histogram.reduce((sum, bar) => sum + bar.count, 0);
  const most = Math.max(...panels.flatMap((panel) => panel.of.histogram.map((bar) => bar.count / total(panel.of))));
  return [
    make(
      "div",
      { class: "figures narrow" },
      panels.map((panel) =>
        barChart({
          title: panel.name,
          note: "mean " + fixed(panel.of.score.sum / panel.of.score.count, 2),
          label: "Scores given by " + panel.name,
          place: panel.place,
          domain,
          step: Math.max(step, (domain[1] - domain[0]) / 60 || 1),
          most,
          labels,
          mean: panel.of.score.sum / panel.of.score.count,
          onpick: onpick && ((bar) => onpick(panel, bar.at)),
          bars: panel.of.histogram.map((bar) => ({
            at: bar.score,
            share: bar.count / total(panel.of),
            text:
              "score " +
              score(bar.score) +
              "\n" +
              fixed(bar.count, 0) +
              " of " +
              fixed(total(panel.of), 0) +
              " judgments\n" +
              percent(bar.count / total(panel.of)),
          })),
        }),
      ),
    ),
    folded("Numbers", () =>
      table(
        ["", ...scores.map(score), "mean", "top score", "entropy, bits", "unreadable"],
        panels.map((panel) => [
          panel.name,
          ...scores.map((at) => fixed(panel.of.histogram.find((bar) => bar.score === at)?.count ?? 0, 0)),
          fixed(panel.of.score.sum / panel.of.score.count, 3),
          percent(panel.of.top.of ? panel.of.top.count / panel.of.top.of : null),
          fixed(panel.of.entropy, 2),
          fixed(unreadable(panel.of), 0),
        ]),
      ),
    ),
  ];
}

function unreadable(of) {
  return Object.values(of.unreadable).reduce((sum, count) => sum + count, 0);
}

function scoresSection(run, browse) {
  const own = run.iterations
    .map((one) => ({
      name: "Iteration\u00a0" + one.iteration,
      place: modelPlace(run, one.model),
      of: statistics(one.stages, "judgments"),
      iteration: one.iteration,
    }))
    .filter((panel) => panel.of?.score.count);
  const held = run.evaluations
    .map((one) => ({
      name: one.name,
      place: modelPlace(run, one.name),
      of: statistics(one.stages, "judgments"),
      iteration: null,
    }))
    .filter((panel) => panel.of?.score.count);
  if (!own.length && !held.length) return null;
  const pick = (panel, at) => browse(panel.iteration, "score:" + at);
  return section(
    "scores",
    "Scores",
    "Shares in per cent; the small mark is the mean. A judge that gives one score to everything teaches nothing.",
    own.length ? [make("h3", {}, "Given by each iteration's model to its own answers"), histograms(own, pick)] : null,
    held.length
      ? [
          make("h3", { class: "sub" }, "Given by each model to the same held-out answers"),
          make(
            "p",
            { class: "small soft" },
            "The answers are those of " + run.base_model + ", so a shift is the judge's alone.",
          ),
          histograms(held, pick),
        ]
      : null,
    own.length
      ? [
          make("h3", { class: "sub" }, "Rewards"),
          make("p", { class: "small soft" }, "Mean score of each distinct response, in bins of a quarter."),
          rewards(run),
        ]
      : null,
  );
}

function rewards(run) {
  const of = run.iterations.filter((one) => one.rewards.length);
  const edges = of.flatMap((one) => one.rewards.map((bin) => bin[0]));
  const domain = [Math.min(...edges) + 0.125, Math.max(...edges) + 0.125];
  const total = (one) => one.rewards.reduce((sum, bin) => sum + bin[1], 0);
  const most = Math.max(...of.flatMap((one) => one.rewards.map((bin) => bin[1] / total(one))));
  return [
    make(
      "div",
      { class: "figures narrow" },
      of.map((one) =>
        barChart({
          title: "Iteration\u00a0" + one.iteration,
          place: modelPlace(run, one.model),
          domain,
          step: 0.25,
          most,
          labels: ticks(Math.floor(domain[0]), Math.ceil(domain[1]), 5).filter(
            (at) => Number.isInteger(at) && at >= domain[0] - 0.13 && at <= domain[1] + 0.13,
          ),
          bars: one.rewards.map(([low, count]) => ({
            at: low + 0.125,
            share: count / total(one),
            text:
              score(low) +
              " to " +
              score(low + 0.25) +
              "\n" +
              fixed(count, 0) +
              " of " +
              plural(total(one), "response") +
              "\n" +
              percent(count / total(one)),
          })),
        }),
      ),
    ),
    folded("Numbers", () => {
      const all = [...new Set(edges)].sort((a, b) => a - b);
      return table(
        ["from", ...of.map((one) => "iteration " + one.iteration)],
        all.map((low) => [
          score(low),
          ...of.map((one) => fixed(one.rewards.find((bin) => bin[0] === low)?.[1] ?? 0, 0)),
        ]),
      );
    }),
  ];
}

function lengthsSection(run) {
  const rows = run.iterations.flatMap((one) =>
    one.lengths.map((of) => ({ iteration: one.iteration, place: modelPlace(run, one.model), of })),
  );
  if (!rows.length) return null;
  const panel = (what, title) => {
    const own = rows.filter((row) => row.of.of === what);
    if (!own.length) return null;
    const every = rows.flatMap((row) => [row.of.quantiles.p10, row.of.quantiles.p90]);
    return dotChart({
      title,
      range: range(every, 0.06),
      rows: own.map(({ iteration, place, of }) => ({
        name: "Iteration\u00a0" + iteration,
        place,
        value: of.quantiles.p50,
        low: of.quantiles.p10,
        high: of.quantiles.p90,
        inner: [of.quantiles.p25, of.quantiles.p75],
        shown: fixed(of.mean, 0),
        text:
          "iteration " +
          iteration +
          ", " +
          what +
          "\nmedian " +
          short(of.quantiles.p50) +
          ", mean " +
          fixed(of.mean, 1) +
          "\nmiddle half " +
          short(of.quantiles.p25) +
          " to " +
          short(of.quantiles.p75) +
          "\ntenth to nine tenths " +
          short(of.quantiles.p10) +
          " to " +
          short(of.quantiles.p90) +
          "\nn = " +
          fixed(of.n, 0),
      })),
    });
  };
  return section(
    "lengths",
    "Lengths",
    "Characters. Dot: median; thick: middle half; thin: from a tenth to nine tenths; the number is the mean.",
    make(
      "div",
      { class: "figures" },
      panel("responses", "Distinct responses"),
      panel("chosen", "Chosen"),
      panel("rejected", "Rejected"),
    ),
    folded("Numbers", () =>
      table(
        ["", "texts", "n", "mean", "10 %", "25 %", "median", "75 %", "90 %"],
        rows.map(({ iteration, of }) => [
          "Iteration\u00a0" + iteration,
          of.of,
          fixed(of.n, 0),
          fixed(of.mean, 1),
          ...["p10", "p25", "p50", "p75", "p90"].map((key) => fixed(of.quantiles[key], 1)),
        ]),
      ),
    ),
  );
}
