// Battles between judgments.

/** The battles between the judgments of one response: ratings, the matrix of weights, and both verdicts of each two. */
function battles(records, rated, judge) {
  const draws = rated
    ? rated.judgments
    : [...new Set(records.verdicts.flatMap((one) => [one.first, one.second]))].sort((a, b) => a - b);
  const response = rated ? rated.response : records.verdicts[0].response;
  const of = (draw) => records.judgments.find((one) => one.response === response && one.draw === draw);
  const verdict = (first, second) =>
    records.verdicts.find((one) => one.response === response && one.first === first && one.second === second);
  const panel = make("div", { class: "stack" });
  const show = (left, right) => {
    panel.replaceChildren(
      make(
        "h4",
        {},
        "Judgment " +
          left +
          " (score " +
          score(of(left)?.score) +
          ") and judgment " +
          right +
          " (score " +
          score(of(right)?.score) +
          ")",
      ),
      make(
        "div",
        { class: "two" },
        [
          [left, right],
          [right, left],
        ].map(([first, second]) => {
          const one = verdict(first, second);
          if (!one) return make("div", { class: "answer inner" }, "Judgment " + first + " first: no verdict.");
          const winner =
            one.winner === "first"
              ? "judgment " + first
              : one.winner === "second"
                ? "judgment " + second
                : one.winner === "tie"
                  ? "neither"
                  : null;
          return make(
            "div",
            { class: "answer inner" },
            make(
              "div",
              { class: "head" },
              make("b", {}, "Judgment " + first + " first"),
              winner
                ? make("span", {}, "winner: ", make("b", {}, winner))
                : mark("unreadable: " + (one.unreadable || "").replaceAll("-", " "), "down"),
              ENDS[one.finish] && mark(ENDS[one.finish], "down"),
            ),
            modelText(one.text, true),
          );
        }),
      ),
      make(
        "div",
        { class: "two" },
        [left, right].map((draw) => of(draw) && judgment(of(draw), judge, rated)),
      ),
    );
  };
  const parts = [make("h3", {}, "Battles between the judgments of response " + response)];
  if (rated) {
    const order = draws.map((_, at) => at).sort((a, b) => rated.ratings[b] - rated.ratings[a] || a - b);
    const most = Math.max(...rated.battles.flat(), 1e-9);
    parts.push(
      make(
        "p",
        { class: "small soft" },
        "This response's scores differ most (variance " +
          fixed(rated.variance, 3) +
          "). A win in the first place weighs " +
          fixed(rated.weights[0], 3) +
          ", in the second " +
          fixed(rated.weights[1], 3) +
          "." +
          (rated.converged ? "" : " The ranker did not converge.") +
          rated.remarks.map((remark) => " " + remarkText(remark, draws)).join(""),
      ),
      table(
        ["judgment", "rating", "score", "characters", "weight of its wins", "of its losses"],
        order.map((at) => {
          const sum = (values) => values.reduce((all, one) => all + one, 0),
            side =
              judge?.chosen.draw === draws[at]
                ? mark("chosen", "up")
                : judge?.rejected.draw === draws[at]
                  ? mark("rejected", "down")
                  : null;
          return [
            [String(draws[at]), " ", side],
            fixed(rated.ratings[at], 1),
            score(of(draws[at])?.score),
            fixed(letters(of(draws[at])?.text || ""), 0),
            fixed(sum(rated.battles[at]), 2),
            fixed(sum(rated.battles.map((row) => row[at])), 2),
          ];
        }),
      ),
      make("h4", {}, "Weight of wins, row over column; press a cell for its verdicts"),
      make(
        "div",
        { class: "wide", tabindex: 0 },
        make(
          "table",
          { class: "heat", "aria-label": "Weight of wins, row over column" },
          make(
            "thead",
            {},
            make(
              "tr",
              {},
              make("th", {}),
              order.map((at) => make("th", { scope: "col" }, String(draws[at]))),
            ),
          ),
          make(
            "tbody",
            {},
            order.map((row) =>
              make(
                "tr",
                {},
                make("th", { scope: "row" }, String(draws[row])),
                order.map((column) => {
                  if (row === column) return make("td", {}, "");
                  const weight = rated.battles[row][column],
                    tie = rated.ties?.[row]?.[column];
                  const press = () => show(draws[row], draws[column]);
                  const cell = make(
                    "td",
                    {
                      class: "open",
                      tabindex: 0,
                      onclick: press,
                      onkeydown: (event) => {
                        if (event.key === "Enter") press();
                      },
                      ...hover(
                        "judgment " +
                          draws[row] +
                          " over judgment " +
                          draws[column] +
                          "\nweight " +
                          fixed(weight, 3) +
                          (tie ? "\nties " + fixed(tie, 3) : ""),
                      ),
                    },
                    weight ? fixed(weight, 2) : "\u00b7",
                  );
                  cell.style.backgroundColor = "rgba(var(--high)," + (0.5 * (weight / most)).toFixed(2) + ")";
                  return cell;
                }),
              ),
            ),
          ),
        ),
      ),
    );
    if (order.length > 1) show(draws[order[0]], draws[order.at(-1)]);
  } else if (draws.length > 1) show(draws[0], draws[1]);
  const pairs = draws
    .flatMap((left, at) => draws.slice(at + 1).map((right) => [left, right]))
    .filter(([left, right]) => verdict(left, right) || verdict(right, left));
  const wins = (one) =>
    one === undefined
      ? "\u2013"
      : one.winner === "first"
        ? String(one.first)
        : one.winner === "second"
          ? String(one.second)
          : one.winner === "tie"
            ? "tie"
            : "unreadable";
  parts.push(
    panel,
    folded("All " + plural(pairs.length, "battle") + ", both orders", () =>
      table(
        ["judgments", "scores", "winner, as named", "winner, other order", "", ""],
        pairs.map(([left, right]) => {
          const one = wins(verdict(left, right)),
            other = wins(verdict(right, left));
          const decided = /^\d/.test(one) && /^\d/.test(other);
          return [
            left + " and " + right,
            score(of(left)?.score) + " and " + score(of(right)?.score),
            one,
            other,
            decided ? (one === other ? "agree" : mark("order decides", "down")) : "",
            make(
              "button",
              {
                onclick: () => {
                  show(left, right);
                  panel.scrollIntoView({ block: "nearest" });
                },
              },
              "Show",
            ),
          ];
        }),
      ),
    ),
  );
  return parts;
}

function remarkText(remark, draws) {
  if (typeof remark === "string") return remark.replaceAll("-", " ") + ".";
  const [name, value] = Object.entries(remark)[0];
  return Array.isArray(value)
    ? name + ": " + value.map((at) => "judgment " + draws[at]).join(", ") + "."
    : name.replaceAll("-", " ") + ": " + value + ".";
}
