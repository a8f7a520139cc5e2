// Learning curves.

const CURVES = [
  { key: "loss", title: "Loss" },
  { key: "margin", title: "Margin", note: "implicit reward, chosen minus rejected" },
  { key: "rewards", title: "Implicit rewards", note: "rejected ones dashed" },
  { key: "accuracy", title: "Accuracy", note: "chosen ahead of rejected" },
  { key: "gradient_norm", title: "Gradient norm", note: "before clipping" },
  { key: "learning_rate", title: "Learning rate" },
];

function trainingSection(run) {
  if (!run.trainings.length) return null;
  const preference = run.trainings.filter((one) => one.steps.some((step) => step.margin !== undefined));
  const others = run.trainings.filter((one) => !preference.includes(one));
  const points = (training, key) =>
    training.steps
      .filter((step) => step[key] !== undefined && step[key] !== null)
      .map((step) => [step.step, step[key]]);
  const charts = (trainings) =>
    CURVES.map((curve) => {
      const of = (key, dash, suffix) =>
        trainings.map((training) => ({
          name: training.name + suffix,
          place: modelPlace(run, training.name),
          dash,
          points: points(training, key),
        }));
      const series = (
        curve.key === "rewards"
          ? [...of("reward_chosen", false, " chosen"), ...of("reward_rejected", true, " rejected")]
          : of(curve.key, false, "")
      ).filter((one) => one.points.length);
      return series.length
        ? lineChart({
            ...curve,
            x: "step",
            series,
            lines: curve.key === "loss" && trainings === preference ? [{ at: Math.LN2, name: "ln 2" }] : [],
          })
        : null;
    }).filter(Boolean);
  const block = (trainings, title) =>
    trainings.length
      ? [
          title && make("h3", { class: "sub" }, title),
          legend(trainings.map((training) => ({ name: training.name, place: modelPlace(run, training.name) }))),
          make("div", { class: "figures" }, charts(trainings)),
        ]
      : null;
  const rows = [["sft", { stages: run.sft }], ...run.iterations.map((one) => ["M" + one.iteration, one])]
    .map(([name, one]) => [name, one?.stages && statistics(one.stages, "training")])
    .filter((pair) => pair[1]);
  return section(
    "training",
    "Training",
    "Each step's value is pale; the line is a moving mean.",
    block(preference, others.length ? "On preferences" : null),
    block(others, "On examples"),
    rows.length
      ? [
          make("h3", { class: "sub" }, "Trainings"),
          table(
            [
              "",
              "examples",
              "actor pairs",
              "judge pairs",
              "steps",
              "first loss",
              "last epoch's loss",
              "epoch kept",
              "cut at the largest length",
            ],
            rows.map(([name, of]) => [
              name,
              fixed(of.examples, 0),
              fixed(of.actor_pairs, 0),
              fixed(of.judge_pairs, 0),
              fixed(of.steps, 0),
              fixed(of.first_loss, 4),
              fixed(of.epochs.at(-1)?.train_loss, 4),
              of.kept,
              fixed(of.truncated, 0),
            ]),
          ),
        ]
      : null,
  );
}
