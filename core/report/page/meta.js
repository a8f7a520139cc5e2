// The meta-judge: position bias, who wins between which scores, ratings.

/** Background between two colours around the half. */
function tint(cell, share) {
  const away = Math.min(1, Math.abs(share - 0.5) * 2);
  cell.style.backgroundColor =
    "rgba(var(" + (share >= 0.5 ? "--high" : "--low") + ")," + (0.06 + 0.5 * away).toFixed(2) + ")";
  return cell;
}

function metaSection(run, browse) {
  const of = run.iterations.filter((one) => one.position_bias);
  if (!of.length) return null;
  const keys = [
    ["higher_wins", "higher score wins"],
    ["first_equal", "first wins, equal scores"],
    ["first_different", "first wins, different scores"],
    ["first", "first wins, all"],
    ["consistent", "same judgment wins in both orders"],
  ];
  const heat = (one) => {
    const { scores, cells } = one.matrix;
    return make(
      "div",
      { class: "wide" },
      make(
        "table",
        { class: "heat" },
        make("caption", {}, "Iteration\u00a0" + one.iteration),
        make(
          "thead",
          {},
          make(
            "tr",
            {},
            make("th", {}, "1st \u2193 2nd \u2192"),
            scores.map((at) => make("th", { scope: "col" }, score(at))),
          ),
        ),
        make(
          "tbody",
          {},
          scores.map((at, row) =>
            make(
              "tr",
              {},
              make("th", { scope: "row" }, score(at)),
              scores.map((other, column) => {
                const [first, second, ties] = cells[row][column],
                  decided = first + second;
                const text =
                  "first scored " +
                  score(at) +
                  ", second " +
                  score(other) +
                  "\nfirst wins " +
                  fixed(first, 0) +
                  "\nsecond wins " +
                  fixed(second, 0) +
                  "\nneither " +
                  fixed(ties, 0);
                const cell = make("td", hover(text), decided ? fixed((100 * first) / decided, 0) : "\u00b7");
                return decided ? tint(cell, first / decided) : cell;
              }),
            ),
          ),
        ),
      ),
    );
  };
  const ratings = of.filter((one) => one.score_ratings.length);
  const weights = of.map((one) => [one, statistics(one.stages, "ratings")]).filter((pair) => pair[1]);
  return section(
    "meta-judge",
    "Meta-judge",
    "Of decided verdicts. Without position bias the first place would win half; a meta-judge that reads scores prefers the higher one.",
    table(
      ["", ...keys.map((key) => key[1] + " (%)")],
      of.map((one) => [
        "Iteration\u00a0" + one.iteration,
        ...keys.map(([key]) => figureCell(one.position_bias[key], percentColumn)),
      ]),
    ),
    folded("Number of verdicts", () =>
      table(
        ["", ...keys.map((key) => key[1])],
        of.map((one) => [
          "Iteration\u00a0" + one.iteration,
          ...keys.map(([key]) => fixed(one.position_bias[key]?.n, 0)),
        ]),
      ),
    ),
    make(
      "p",
      { class: "small" },
      make(
        "a",
        { href: "#browse", onclick: () => browse(of[0].iteration, "order") },
        "See prompts where the order decides",
      ),
      ".",
    ),
    make("h3", { class: "sub" }, "Who wins, by the two scores"),
    make("p", { class: "small soft" }, "How often the judgment shown first wins, in per cent of decided verdicts."),
    make("div", { class: "figures" }, of.map(heat)),
    weights.length
      ? [
          make("h3", { class: "sub" }, "Battles and ratings"),
          table(
            [
              "",
              "rated responses",
              "weight of a win in the first place",
              "in the second",
              "not converged",
              "undefeated",
              "winless",
              "disconnected",
            ],
            weights.map(([one, rated]) => [
              "Iteration\u00a0" + one.iteration,
              fixed(rated.rated, 0),
              fixed(rated.w1.sum / rated.w1.count, 3),
              fixed(rated.w2.sum / rated.w2.count, 3),
              fixed(rated.not_converged, 0),
              ...["undefeated", "winless", "disconnected"].map((key) => fixed(rated.remarks[key] ?? 0, 0)),
            ]),
          ),
        ]
      : null,
    ratings.length
      ? [
          make(
            "p",
            { class: "small soft" },
            "Ratings of judgments by the score that they gave, minus the mean rating of their response's judgments. Dot: median; thick: middle half; thin: from a tenth to nine tenths.",
          ),
          make(
            "div",
            { class: "figures" },
            ratings.map((one) =>
              dotChart({
                title: "Iteration\u00a0" + one.iteration,
                guide: 0,
                rows: one.score_ratings.map((row) => ({
                  name: "score " + score(row.score),
                  place: modelPlace(run, one.model),
                  value: row.quantiles.p50,
                  low: row.quantiles.p10,
                  high: row.quantiles.p90,
                  inner: [row.quantiles.p25, row.quantiles.p75],
                  shown: signed(short(row.quantiles.p50)),
                  text:
                    "score " +
                    score(row.score) +
                    "\nmedian " +
                    signed(short(row.quantiles.p50)) +
                    ", mean " +
                    signed(short(row.mean)) +
                    "\nn = " +
                    fixed(row.n, 0),
                })),
                table: () =>
                  table(
                    ["score", "n", "mean", "10 %", "25 %", "median", "75 %", "90 %"],
                    one.score_ratings.map((row) => [
                      score(row.score),
                      fixed(row.n, 0),
                      fixed(row.mean, 1),
                      ...["p10", "p25", "p50", "p75", "p90"].map((key) => fixed(row.quantiles[key], 1)),
                    ]),
                  ),
              }),
            ),
          ),
        ]
      : null,
  );
}
