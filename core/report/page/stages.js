// What went into every stage and what was lost, and what ran.

function stagesSection(run, browse) {
  if (!run.iterations.length) return null;
  const count = (one, stage) => one.stages.find((of) => of.stage === stage)?.records;
  const rows = run.iterations.map((one) => {
    const responses = statistics(one.stages, "responses"),
      judgments = statistics(one.stages, "judgments"),
      verdicts = statistics(one.stages, "verdicts"),
      pairs = statistics(one.stages, "pairs");
    const lost = (of, all) =>
      of
        ? [fixed(unreadable(of), 0), make("span", { class: "interval" }, percent(all ? unreadable(of) / all : 0, 2))]
        : "\u2013";
    return [
      "Iteration\u00a0" + one.iteration,
      fixed(count(one, "prompts"), 0),
      responses ? fixed(responses.responses, 0) : "\u2013",
      responses ? fixed(responses.duplicates, 0) : "\u2013",
      judgments ? fixed(judgments.judgments, 0) : "\u2013",
      lost(judgments, judgments?.judgments),
      verdicts ? fixed(verdicts.verdicts, 0) : "\u2013",
      lost(verdicts, verdicts?.verdicts),
      verdicts ? fixed(verdicts.ties, 0) : "\u2013",
      fixed(pairs?.actor?.pairs ?? null, 0),
      fixed(pairs?.judge?.pairs ?? null, 0),
    ];
  });
  const none = run.iterations.flatMap((one) => {
    const pairs = statistics(one.stages, "pairs");
    return [
      ["actor", pairs?.actor],
      ["judge", pairs?.judge],
    ].flatMap(([kind, of]) =>
      Object.entries(of?.none || {}).map(([reason, number]) => [
        "Iteration\u00a0" + one.iteration,
        kind,
        quoted(reason),
        make("a", { href: "#browse", onclick: () => browse(one.iteration, "no-" + kind) }, fixed(number, 0)),
      ]),
    );
  });
  const reasons = run.iterations.flatMap((one) =>
    [
      ["judgments", statistics(one.stages, "judgments")],
      ["verdicts", statistics(one.stages, "verdicts")],
    ].flatMap(([what, of]) =>
      Object.entries(of?.unreadable || {}).map(([reason, number]) => [
        "Iteration\u00a0" + one.iteration,
        what,
        reason.replaceAll("-", " "),
        make("a", { href: "#browse", onclick: () => browse(one.iteration, "unreadable") }, fixed(number, 0)),
      ]),
    ),
  );
  const pairs = run.iterations.flatMap((one) =>
    [
      ["actor", statistics(one.stages, "pairs")?.actor],
      ["judge", statistics(one.stages, "pairs")?.judge],
    ]
      .filter((pair) => pair[1]?.pairs)
      .map(([kind, of]) => [
        "Iteration\u00a0" + one.iteration,
        kind,
        fixed(of.pairs, 0),
        fixed(of.chosen_length.sum / of.chosen_length.count, 1),
        fixed(of.rejected_length.sum / of.rejected_length.count, 1),
        of.unit,
        fixed(of.margin.sum / of.margin.count, 2),
      ]),
  );
  const effort = run.iterations.flatMap((one) =>
    one.stages
      .filter((of) => of.seconds !== null)
      .map((of) => [
        "Iteration\u00a0" + one.iteration,
        of.stage,
        fixed(of.records, 0),
        fixed(of.seconds, 1),
        fixed(of.tokens, 0),
        of.seconds > 0 && of.tokens ? fixed(of.tokens / of.seconds, 0) : "\u2013",
      ]),
  );
  return section(
    "stages",
    "Stages",
    "What went in, what came out, and what was lost on the way.",
    table(
      [
        "",
        "prompts",
        "responses",
        "of them duplicates",
        "judgments",
        "of them unreadable",
        "verdicts",
        "of them unreadable",
        "of them ties",
        "actor pairs",
        "judge pairs",
      ],
      rows,
    ),
    pairs.length
      ? [
          make("h3", { class: "sub" }, "Pairs"),
          table(
            [
              "",
              "kind",
              "pairs",
              "chosen, mean length",
              "rejected, mean length",
              "unit",
              "mean margin of reward or rating",
            ],
            pairs,
            { class: "left1" },
          ),
        ]
      : null,
    none.length
      ? [
          make("h3", { class: "sub" }, "Prompts without a pair"),
          table(["", "kind", "why", "prompts"], none, { class: "left2" }),
        ]
      : null,
    reasons.length
      ? [
          make("h3", { class: "sub" }, "Unreadable"),
          make("p", { class: "small soft" }, "They count nowhere."),
          table(["", "what", "why", "number"], reasons, { class: "left2" }),
        ]
      : null,
    effort.length
      ? folded("Time and tokens", () =>
          table(["", "stage", "records", "seconds", "tokens computed", "tokens per second"], effort, {
            class: "left1",
          }),
        )
      : null,
  );
}

function flatten(value, prefix = "") {
  if (value === null || typeof value !== "object" || Array.isArray(value) || !Object.keys(value).length)
    return [[prefix, value]];
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
      if (seen.at(-1)?.text === text) seen.at(-1).to = place + 1;
      else seen.push({ text, plugin, from: place + 1, to: place + 1 });
    });
    return seen.map(({ plugin, from, to }) => [
      use.section,
      from === to ? String(from) : from + " to " + to,
      [quoted(plugin.info.name), " " + plugin.info.version],
      typeof plugin.form === "string" ? plugin.form : JSON.stringify(plugin.form),
      plugin.sha256 ? plugin.sha256.slice(0, 12) : "\u2013",
      JSON.stringify(plugin.options),
    ]);
  });
  return section(
    "setup",
    "What ran",
    null,
    table(
      ["", ""],
      [
        ["Experiment", quoted(run.name)],
        ["Run folder", quoted(run.folder)],
        ["Seed", String(run.seed)],
        ["metareward", run.version],
        [
          "Seed model",
          run.card.architecture +
            ", " +
            plural(run.card.parameters, "parameter") +
            ", context " +
            fixed(run.card.context, 0),
        ],
        ["Its fingerprint", run.fingerprint.slice(0, 16)],
        ...Object.entries(run.machine).map(([key, value]) => [key, value]),
      ],
      { class: "settings" },
    ),
    plugins.length
      ? folded("Plugins and their options", () =>
          table(["section", "iterations", "plugin", "form", "sha256", "options"], plugins, { class: "settings" }),
        )
      : null,
    folded("Config as resolved", () =>
      table(
        ["key", "value"],
        flatten(run.config).map(([key, value]) => [key, settingText(value)]),
        { class: "settings" },
      ),
    ),
  );
}
