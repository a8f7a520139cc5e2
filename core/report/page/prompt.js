// One prompt with everything that was recorded of it.

function promptText(prompt) {
  return make(
    "div",
    {},
    make(
      "h4",
      { class: "soft" },
      "Prompt ",
      quoted(prompt.id),
      prompt.category && [" \u00b7 ", quoted(prompt.category)],
    ),
    prompt.system
      ? [
          make("div", { class: "small soft" }, "Instructions"),
          modelText(prompt.system, true),
          make("div", { class: "small soft" }, "Question"),
        ]
      : null,
    modelText(prompt.text),
  );
}

function letters(text) {
  return [...text].length;
}

const ENDS = {
  "end-of-turn": null,
  stop: "ended by a stop text",
  length: "cut at the largest length",
  context: "cut: context full",
};

function optionsOf(run, sectionName, iteration) {
  const use = run.plugins.find((one) => one.section === sectionName);
  return use?.iterations[Math.min(iteration, use.iterations.length) - 1];
}

/** Why a pair is what it is: the selector's rule on these candidates. */
function why(run, iteration, kind, pair, unpaired, candidates) {
  const name = kind === "actor" ? "Actor pair" : "Judge pair",
    thing = kind === "actor" ? "response" : "judgment",
    value = kind === "actor" ? "reward" : "rating";
  if (!pair && !unpaired) return null;
  const plugin = optionsOf(run, "selector." + kind, iteration);
  const scores = candidates.map((one) => one.score);
  const low = Math.min(...scores),
    high = Math.max(...scores);
  const spread = scores.length
    ? plural(scores.length, "candidate") +
      " with a " +
      value +
      (scores.length > 1 ? " from " + fixed(low, 2) + " to " + fixed(high, 2) + "." : ".")
    : "No candidate has a " + value + ".";
  const parts = [make("h4", {}, name)];
  if (unpaired) {
    const reason =
      typeof unpaired.reason === "string" ? unpaired.reason.replaceAll("-", " ") : Object.values(unpaired.reason)[0];
    parts.push(make("p", {}, make("b", {}, "None: "), quoted(reason), "."), make("p", {}, spread));
  } else {
    parts.push(
      make(
        "p",
        {},
        "Chosen: " +
          thing +
          " " +
          pair.chosen.draw +
          ", " +
          value +
          " " +
          fixed(pair.chosen.score, 2) +
          ", length " +
          pair.chosen.length +
          ". Rejected: " +
          thing +
          " " +
          pair.rejected.draw +
          ", " +
          value +
          " " +
          fixed(pair.rejected.score, 2) +
          ", length " +
          pair.rejected.length +
          ".",
      ),
      make("p", {}, spread),
    );
  }
  const rho = plugin?.options?.rho;
  if (plugin?.info.name === "length-control" && typeof rho === "number" && scores.length > 1 && high > low) {
    const upper = (1 - rho) * high + rho * low,
      lower = (1 - rho) * low + rho * high;
    const { prefer, tolerance = 1e-9, unit, max_chosen_length: limit } = plugin.options;
    const tier = (keep) => {
      const kept = candidates.filter(keep);
      return kept.map((one) => one.draw + " (" + one[unit] + ")").join(", ") || "none";
    };
    parts.push(
      make(
        "p",
        {},
        "Length control with rho " +
          rho +
          ". Upper tier, from " +
          fixed(upper, 2) +
          ": " +
          thing +
          " " +
          tier((one) => one.score >= upper - tolerance) +
          ". Lower tier, up to " +
          fixed(lower, 2) +
          ": " +
          thing +
          " " +
          tier((one) => one.score <= lower + tolerance) +
          ". In brackets: " +
          unit +
          ".",
      ),
      make(
        "p",
        {},
        (prefer === "random"
          ? "One of each tier is taken at random, by the run's seed."
          : "The shortest of the upper tier is chosen, the longest of the lower one rejected.") +
          (limit ? " A chosen text may have " + plural(limit, unit.replace(/s$/, "")) + "." : ""),
      ),
    );
  } else if (plugin) {
    parts.push(
      make(
        "p",
        { class: "small soft" },
        "Selected by ",
        quoted(plugin.info.name),
        " with ",
        JSON.stringify(plugin.options),
        ".",
      ),
    );
  }
  return make("div", { class: "why" }, parts);
}

function mean(values) {
  return values.length ? values.reduce((sum, one) => sum + one, 0) / values.length : null;
}

function ofIteration(run, iteration, records) {
  const actor = records.pairs.find((pair) => pair.kind === "actor"),
    judge = records.pairs.find((pair) => pair.kind === "judge");
  const no = (kind) => records.unpaired.find((one) => one.kind === kind);
  const judged = (draw) => records.judgments.filter((one) => one.response === draw);
  const reward = (draw) =>
    actor?.chosen.draw === draw
      ? actor.chosen.score
      : actor?.rejected.draw === draw
        ? actor.rejected.score
        : mean(
            judged(draw)
              .map((one) => one.score)
              .filter((one) => one !== null),
          );
  const rated = records.ratings[0];
  const sized = (text, tokens) => ({ characters: letters(text), tokens });
  const candidates = records.responses
    .map((one) => ({ draw: one.draw, score: reward(one.draw), ...sized(one.text, one.tokens) }))
    .filter((one) => one.score !== null);
  const players = rated
    ? rated.judgments.map((draw, at) => {
        const one = judged(rated.response).find((judgment) => judgment.draw === draw);
        return { draw, score: rated.ratings[at], ...sized(one?.text ?? "", one?.tokens) };
      })
    : [];
  const responses = [...records.responses].sort(
    (a, b) => (reward(b.draw) ?? -Infinity) - (reward(a.draw) ?? -Infinity) || a.draw - b.draw,
  );
  return [
    promptText(records.prompt),
    make(
      "div",
      { class: "two" },
      why(run, iteration, "actor", actor, no("actor"), candidates),
      why(run, iteration, "judge", judge, no("judge"), players),
    ),
    make("h3", {}, plural(records.responses.length, "response")),
    make(
      "div",
      { class: "stack" },
      responses.map((response) => answer(response, judged(response.draw), reward(response.draw), actor, judge, rated)),
    ),
    rated || records.verdicts.length ? battles(records, rated, judge) : null,
  ];
}

function answer(response, judgments, reward, actor, judge, rated) {
  const side =
    actor?.chosen.draw === response.draw ? "chosen" : actor?.rejected.draw === response.draw ? "rejected" : "";
  const readable = judgments.filter((one) => one.score !== null);
  return make(
    "article",
    { class: "answer " + side },
    make(
      "div",
      { class: "head" },
      make("b", {}, "Response " + response.draw),
      side && mark(side, side === "chosen" ? "up" : "down"),
      rated?.response === response.draw && mark("judgments meet", "tone"),
      response.duplicate_of !== undefined && mark("same as " + response.duplicate_of),
      judgments.length
        ? [
            make("span", {}, "reward ", make("b", {}, fixed(reward, 2))),
            make("span", {}, readable.length + " of " + plural(judgments.length, "judgment") + " readable"),
          ]
        : make("span", {}, "not judged"),
      make("span", {}, plural(letters(response.text), "character") + ", " + plural(response.tokens, "token")),
      ENDS[response.finish] && mark(ENDS[response.finish], "down"),
    ),
    modelText(response.text),
    judgments.length
      ? folded("Judgments: " + judgments.map((one) => (one.score === null ? "?" : score(one.score))).join("  "), () =>
          make(
            "div",
            { class: "stack" },
            judgments.map((one) => judgment(one, judge, rated)),
          ),
        )
      : null,
  );
}

function judgment(one, judge, rated) {
  const meets = rated?.response === one.response;
  const at = meets ? rated.judgments.indexOf(one.draw) : -1;
  const side =
    meets && judge?.chosen.draw === one.draw ? "chosen" : meets && judge?.rejected.draw === one.draw ? "rejected" : "";
  return make(
    "div",
    { class: "answer inner " + side },
    make(
      "div",
      { class: "head" },
      make("b", {}, "Judgment " + one.draw),
      make("span", {}, "score ", make("b", {}, score(one.score))),
      one.unreadable && mark("unreadable: " + one.unreadable.replaceAll("-", " "), "down"),
      at >= 0 && make("span", {}, "rating ", make("b", {}, fixed(rated.ratings[at], 1))),
      side && mark(side, side === "chosen" ? "up" : "down"),
      one.opponent !== undefined && make("span", {}, "beside response " + one.opponent + ", shown " + one.shown),
      make("span", {}, plural(one.tokens, "token")),
      ENDS[one.finish] && mark(ENDS[one.finish], "down"),
    ),
    modelText(one.text, true),
  );
}

function heldOut(run, records) {
  const base = records.models.find((one) => one.name === run.base_model);
  const points = (model, draw) => model.points.find((one) => one.response === draw)?.points ?? null;
  return [
    promptText(records.prompt),
    make("h3", {}, "Answers"),
    make(
      "div",
      { class: "stack" },
      records.models.map((model) =>
        make(
          "article",
          { class: "answer" },
          make(
            "div",
            { class: "head" },
            make("b", {}, model.name),
            mean(model.points.map((one) => one.points)) !== null &&
              make("span", {}, "mean points ", make("b", {}, fixed(mean(model.points.map((one) => one.points)), 2))),
          ),
          make(
            "div",
            { class: "stack" },
            model.responses.map((response) =>
              make(
                "div",
                {},
                make(
                  "div",
                  { class: "head" },
                  "Response " + response.draw,
                  points(model, response.draw) !== null &&
                    make("span", {}, score(points(model, response.draw)) + " points"),
                  make("span", {}, plural(letters(response.text), "character")),
                  ENDS[response.finish] && mark(ENDS[response.finish], "down"),
                ),
                modelText(response.text, true),
              ),
            ),
          ),
        ),
      ),
    ),
    base && records.models.some((one) => one.judgments.length)
      ? [
          make("h3", {}, "What each judge says of the answers of " + base.name),
          table(
            ["response", "oracle's points", ...records.models.map((model) => model.name)],
            base.responses.map((response) => [
              String(response.draw),
              score(points(base, response.draw)),
              ...records.models.map((model) => {
                const scores = model.judgments.filter((one) => one.response === response.draw);
                return [
                  fixed(mean(scores.map((one) => one.score).filter((one) => one !== null)), 2),
                  scores.length
                    ? make(
                        "span",
                        { class: "interval" },
                        scores.map((one) => (one.score === null ? "?" : score(one.score))).join(" "),
                      )
                    : null,
                ];
              }),
            ]),
          ),
          records.models
            .filter((model) => model.judgments.length)
            .map((model) =>
              folded("Judgments by " + model.name, () =>
                make(
                  "div",
                  { class: "stack" },
                  model.judgments.map((one) =>
                    make("div", {}, make("div", { class: "small soft" }, "of response " + one.response), judgment(one)),
                  ),
                ),
              ),
            ),
        ]
      : null,
  ];
}
