// The texts behind the figures: pick a prompt, see everything that was recorded of it. Records lie compressed in blocks of
// the page and are unpacked when they are asked for.

const unpacked = new Map();

/** The content of a block, unpacked once. */
function block(id) {
  if (!unpacked.has(id)) unpacked.set(id, unpack(id));
  // Only a few packs are kept: a page may hold more records than a phone holds memory.
  if (unpacked.size > 12) unpacked.delete([...unpacked.keys()].find((key) => /-\d+$/.test(key) && key !== id && !/iteration-\d+$/.test(key)));
  return unpacked.get(id);
}

async function unpack(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error("This file is cut: the block " + id + " is missing.");
  if (typeof DecompressionStream === "undefined") throw new Error("This browser cannot unpack records; one from 2023 or later can.");
  const letters = atob(element.textContent);
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const FILTERS = [
  ["all", "All prompts", () => true],
  ["actor", "With an actor pair", (entry) => entry.actor === true],
  ["no-actor", "Without an actor pair", (entry) => entry.actor === false],
  ["judge", "With a judge pair", (entry) => entry.judge === true],
  ["no-judge", "Without a judge pair", (entry) => entry.judge === false],
  ["unreadable", "With something unreadable", (entry) => entry.unreadable > 0],
  ["order", "Where the order decides a battle", (entry) => entry.order_decides > 0],
];
const PAGE = 50;

/** The browser of a run's records: its section, and a function that opens a place with a filter. */
function browser(run, remember) {
  let place = null, entries = [], found = [], first = 0, current = null;
  const places = make("select", { "aria-label": "Iteration", onchange: () => choose(Number(places.value), "all") },
    run.places.map((one, at) => make("option", { value: at }, one.iteration === null ? "Held-out prompts" : "Iteration\u00a0" + one.iteration)));
  const filters = make("select", { "aria-label": "Filter", onchange: () => list() });
  const search = make("input", { type: "search", placeholder: "Search prompts", "aria-label": "Search prompts", oninput: () => list() });
  const items = make("ol", {}), pager = make("div", { class: "pager" }), opened = make("div", { class: "opened" });
  const whole = make("div", { class: "browser" }, make("div", { class: "list" }, items, pager), opened);
  const limited = make("p", { class: "small soft" });
  const element = section("browse", "Browse", "Every text behind the figures. Signs that hide or turn text are shown as such.", make("div", { class: "controls" }, places, filters, search), limited, whole);

  function failed(error) {
    opened.replaceChildren(make("div", { class: "notice" }, error.message));
  }

  async function choose(at, filter, id) {
    place = run.places[at];
    places.value = at;
    limited.replaceChildren(...shown(place.shown < place.prompts ? "This file holds the records of " + fixed(place.shown, 0) + " of " + fixed(place.prompts, 0) + " prompts." : ""));
    try {
      entries = await block(place.key);
    } catch (error) {
      return failed(error);
    }
    if (place !== run.places[at]) return;
    const scores = [...new Set(entries.flatMap((entry) => entry.scores))].sort((a, b) => a - b);
    const options = [...FILTERS.filter(([key, , keep]) => key === "all" || entries.some(keep)).map(([key, name]) => [key, name]), ...scores.map((at) => ["score:" + at, "With a judgment of " + score(at)])];
    filters.replaceChildren(...options.map(([key, name]) => make("option", { value: key }, name)));
    filters.value = options.some(([key]) => key === filter) ? filter : "all";
    if (id !== undefined) search.value = "";
    list(id);
  }

  /** Lists what passes the filter and the search, and opens one of it. */
  function list(id) {
    const wanted = search.value.toLowerCase();
    const keep = filters.value.startsWith("score:") ? ((at) => (entry) => entry.scores.includes(at))(Number(filters.value.slice(6))) : FILTERS.find(([key]) => key === filters.value)[2];
    found = entries.filter((entry) => keep(entry) && (!wanted || entry.text.toLowerCase().includes(wanted) || entry.id.toLowerCase().includes(wanted) || (entry.category || "").toLowerCase().includes(wanted)));
    const at = Math.max(0, found.findIndex((entry) => entry.id === id));
    first = at - (at % PAGE);
    turn();
    if (found.length) open(found[at], id !== undefined);
    else opened.replaceChildren(make("p", { class: "soft" }, "No prompt passes the filter and the search."));
  }

  function turn() {
    const page = found.slice(first, first + PAGE);
    items.replaceChildren(...page.map((entry) => make("li", {}, make("button", { "aria-current": entry.id === current, onclick: () => open(entry, true), "data-id": entry.id },
      make("span", { class: "beginning", dir: "auto" }, entry.text),
      make("span", { class: "small soft" }, [entry.category && [quoted(entry.category), " \u00b7 "], entry.scores.length ? "scores " + score(entry.scores[0]) + "\u2013" + score(entry.scores.at(-1)) : "no scores",
        entry.actor === false ? " \u00b7 no actor pair" : "", entry.judge === false ? " \u00b7 no judge pair" : ""])))));
    const move = (by) => () => { first += by; turn(); items.scrollTop = 0; };
    pager.replaceChildren(make("button", { disabled: first === 0, onclick: move(-PAGE), "aria-label": "Earlier prompts" }, "\u2190"),
      found.length ? fixed(first + 1, 0) + "\u2013" + fixed(Math.min(first + PAGE, found.length), 0) + " of " + fixed(found.length, 0) : "0",
      make("button", { disabled: first + PAGE >= found.length, onclick: move(PAGE), "aria-label": "Later prompts" }, "\u2192"));
  }

  async function open(entry, scroll) {
    current = entry.id;
    for (const button of items.querySelectorAll("button")) button.setAttribute("aria-current", button.dataset.id === plain(current));
    let pack;
    try {
      pack = await block(place.key + "-" + entry.pack);
    } catch (error) {
      return failed(error);
    }
    if (current !== entry.id) return;
    const records = pack.find((one) => one.prompt.id === entry.id);
    whole.classList.toggle("shown", scroll);
    opened.replaceChildren(...(place.iteration === null ? heldOut(run, records) : ofIteration(run, place.iteration, records)).flat(Infinity).filter(Boolean));
    if (scroll) {
      remember(place.iteration === null ? "held-out" : "iteration-" + place.iteration, entry.id);
      if (innerWidth < 736) opened.scrollIntoView();
    }
  }

  const browse = (iteration, filter, id) => {
    const at = run.places.findIndex((one) => one.iteration === iteration);
    if (at < 0) return;
    search.value = "";
    choose(at, filter || "all", id);
    if (id === undefined) element.scrollIntoView();
  };
  // Blocks stand after the script, so none is there before the file is read to its end.
  if (run.places.length && document.readyState === "loading") addEventListener("DOMContentLoaded", () => choose(0, "all"), { once: true });
  else if (run.places.length) choose(0, "all");
  return { element: run.places.length ? element : null, browse };
}

function promptText(prompt) {
  return make("div", {}, make("h4", { class: "soft" }, "Prompt ", quoted(prompt.id), prompt.category && [" \u00b7 ", quoted(prompt.category)]),
    prompt.system ? [make("div", { class: "small soft" }, "Instructions"), modelText(prompt.system, true), make("div", { class: "small soft" }, "Question")] : null, modelText(prompt.text));
}

function letters(text) {
  return [...text].length;
}

const ENDS = { "end-of-turn": null, stop: "ended by a stop text", length: "cut at the largest length", context: "cut: context full" };

function optionsOf(run, sectionName, iteration) {
  const use = run.plugins.find((one) => one.section === sectionName);
  return use?.iterations[Math.min(iteration, use.iterations.length) - 1];
}

/** Why a pair is what it is: the selector's rule on these candidates. */
function why(run, iteration, kind, pair, unpaired, candidates) {
  const name = kind === "actor" ? "Actor pair" : "Judge pair", thing = kind === "actor" ? "response" : "judgment", value = kind === "actor" ? "reward" : "rating";
  if (!pair && !unpaired) return null;
  const plugin = optionsOf(run, "selector." + kind, iteration);
  const scores = candidates.map((one) => one.score);
  const low = Math.min(...scores), high = Math.max(...scores);
  const spread = scores.length ? plural(scores.length, "candidate") + " with a " + value + (scores.length > 1 ? " from " + fixed(low, 2) + " to " + fixed(high, 2) + "." : ".") : "No candidate has a " + value + ".";
  const parts = [make("h4", {}, name)];
  if (unpaired) {
    const reason = typeof unpaired.reason === "string" ? unpaired.reason.replaceAll("-", " ") : Object.values(unpaired.reason)[0];
    parts.push(make("p", {}, make("b", {}, "None: "), quoted(reason), "."), make("p", {}, spread));
  } else {
    parts.push(make("p", {}, "Chosen: " + thing + " " + pair.chosen.draw + ", " + value + " " + fixed(pair.chosen.score, 2) + ", length " + pair.chosen.length + ". Rejected: " + thing + " " + pair.rejected.draw + ", " + value + " " + fixed(pair.rejected.score, 2) + ", length " + pair.rejected.length + "."), make("p", {}, spread));
  }
  const rho = plugin?.options?.rho;
  if (plugin?.info.name === "length-control" && typeof rho === "number" && scores.length > 1 && high > low) {
    const upper = (1 - rho) * high + rho * low, lower = (1 - rho) * low + rho * high;
    const { prefer, tolerance = 1e-9, unit, max_chosen_length: limit } = plugin.options;
    const tier = (keep) => { const kept = candidates.filter(keep); return kept.map((one) => one.draw + " (" + one[unit] + ")").join(", ") || "none"; };
    parts.push(make("p", {}, "Length control with rho " + rho + ". Upper tier, from " + fixed(upper, 2) + ": " + thing + " " + tier((one) => one.score >= upper - tolerance) + ". Lower tier, up to " + fixed(lower, 2) + ": " + thing + " " + tier((one) => one.score <= lower + tolerance) + ". In brackets: " + unit + "."),
      make("p", {}, (prefer === "random" ? "One of each tier is taken at random, by the run's seed." : "The shortest of the upper tier is chosen, the longest of the lower one rejected.") + (limit ? " A chosen text may have " + plural(limit, unit.replace(/s$/, "")) + "." : "")));
  } else if (plugin) {
    parts.push(make("p", { class: "small soft" }, "Selected by ", quoted(plugin.info.name), " with ", JSON.stringify(plugin.options), "."));
  }
  return make("div", { class: "why" }, parts);
}

function mean(values) {
  return values.length ? values.reduce((sum, one) => sum + one, 0) / values.length : null;
}

function ofIteration(run, iteration, records) {
  const actor = records.pairs.find((pair) => pair.kind === "actor"), judge = records.pairs.find((pair) => pair.kind === "judge");
  const no = (kind) => records.unpaired.find((one) => one.kind === kind);
  const judged = (draw) => records.judgments.filter((one) => one.response === draw);
  const reward = (draw) => actor?.chosen.draw === draw ? actor.chosen.score : actor?.rejected.draw === draw ? actor.rejected.score : mean(judged(draw).map((one) => one.score).filter((one) => one !== null));
  const rated = records.ratings[0];
  const sized = (text, tokens) => ({ characters: letters(text), tokens });
  const candidates = records.responses.map((one) => ({ draw: one.draw, score: reward(one.draw), ...sized(one.text, one.tokens) })).filter((one) => one.score !== null);
  const players = rated ? rated.judgments.map((draw, at) => { const one = judged(rated.response).find((judgment) => judgment.draw === draw); return { draw, score: rated.ratings[at], ...sized(one?.text ?? "", one?.tokens) }; }) : [];
  const responses = [...records.responses].sort((a, b) => (reward(b.draw) ?? -Infinity) - (reward(a.draw) ?? -Infinity) || a.draw - b.draw);
  return [
    promptText(records.prompt),
    make("div", { class: "two" }, why(run, iteration, "actor", actor, no("actor"), candidates),
      why(run, iteration, "judge", judge, no("judge"), players)),
    make("h3", {}, plural(records.responses.length, "response")),
    make("div", { class: "stack" }, responses.map((response) => answer(response, judged(response.draw), reward(response.draw), actor, judge, rated))),
    rated || records.verdicts.length ? battles(records, rated, judge) : null,
  ];
}

function answer(response, judgments, reward, actor, judge, rated) {
  const side = actor?.chosen.draw === response.draw ? "chosen" : actor?.rejected.draw === response.draw ? "rejected" : "";
  const readable = judgments.filter((one) => one.score !== null);
  return make("article", { class: "answer " + side },
    make("div", { class: "head" }, make("b", {}, "Response " + response.draw),
      side && mark(side, side === "chosen" ? "up" : "down"), rated?.response === response.draw && mark("judgments meet", "tone"), response.duplicate_of !== undefined && mark("same as " + response.duplicate_of),
      judgments.length ? [make("span", {}, "reward ", make("b", {}, fixed(reward, 2))), make("span", {}, readable.length + " of " + plural(judgments.length, "judgment") + " readable")] : make("span", {}, "not judged"),
      make("span", {}, plural(letters(response.text), "character") + ", " + plural(response.tokens, "token")), ENDS[response.finish] && mark(ENDS[response.finish], "down")),
    modelText(response.text),
    judgments.length ? folded("Judgments: " + judgments.map((one) => one.score === null ? "?" : score(one.score)).join("  "), () => make("div", { class: "stack" }, judgments.map((one) => judgment(one, judge, rated)))) : null);
}

function judgment(one, judge, rated) {
  const meets = rated?.response === one.response;
  const at = meets ? rated.judgments.indexOf(one.draw) : -1;
  const side = meets && judge?.chosen.draw === one.draw ? "chosen" : meets && judge?.rejected.draw === one.draw ? "rejected" : "";
  return make("div", { class: "answer inner " + side },
    make("div", { class: "head" }, make("b", {}, "Judgment " + one.draw), make("span", {}, "score ", make("b", {}, score(one.score))), one.unreadable && mark("unreadable: " + one.unreadable.replaceAll("-", " "), "down"),
      at >= 0 && make("span", {}, "rating ", make("b", {}, fixed(rated.ratings[at], 1))), side && mark(side, side === "chosen" ? "up" : "down"),
      one.opponent !== undefined && make("span", {}, "beside response " + one.opponent + ", shown " + one.shown), make("span", {}, plural(one.tokens, "token")), ENDS[one.finish] && mark(ENDS[one.finish], "down")),
    modelText(one.text, true));
}

/** The battles between the judgments of one response: ratings, the matrix of weights, and both verdicts of each two. */
function battles(records, rated, judge) {
  const draws = rated ? rated.judgments : [...new Set(records.verdicts.flatMap((one) => [one.first, one.second]))].sort((a, b) => a - b);
  const response = rated ? rated.response : records.verdicts[0].response;
  const of = (draw) => records.judgments.find((one) => one.response === response && one.draw === draw);
  const verdict = (first, second) => records.verdicts.find((one) => one.response === response && one.first === first && one.second === second);
  const panel = make("div", { class: "stack" });
  const show = (left, right) => {
    panel.replaceChildren(make("h4", {}, "Judgment " + left + " (score " + score(of(left)?.score) + ") and judgment " + right + " (score " + score(of(right)?.score) + ")"),
      make("div", { class: "two" }, [[left, right], [right, left]].map(([first, second]) => {
        const one = verdict(first, second);
        if (!one) return make("div", { class: "answer inner" }, "Judgment " + first + " first: no verdict.");
        const winner = one.winner === "first" ? "judgment " + first : one.winner === "second" ? "judgment " + second : one.winner === "tie" ? "neither" : null;
        return make("div", { class: "answer inner" }, make("div", { class: "head" }, make("b", {}, "Judgment " + first + " first"), winner ? make("span", {}, "winner: ", make("b", {}, winner)) : mark("unreadable: " + (one.unreadable || "").replaceAll("-", " "), "down"), ENDS[one.finish] && mark(ENDS[one.finish], "down")), modelText(one.text, true));
      })), make("div", { class: "two" }, [left, right].map((draw) => of(draw) && judgment(of(draw), judge, rated))));
  };
  const parts = [make("h3", {}, "Battles between the judgments of response " + response)];
  if (rated) {
    const order = draws.map((_, at) => at).sort((a, b) => rated.ratings[b] - rated.ratings[a] || a - b);
    const most = Math.max(...rated.battles.flat(), 1e-9);
    parts.push(make("p", { class: "small soft" }, "This response's scores differ most (variance " + fixed(rated.variance, 3) + "). A win in the first place weighs " + fixed(rated.weights[0], 3) + ", in the second " + fixed(rated.weights[1], 3) + "."
      + (rated.converged ? "" : " The ranker did not converge.") + rated.remarks.map((remark) => " " + remarkText(remark, draws)).join("")),
      table(["judgment", "rating", "score", "characters", "weight of its wins", "of its losses"], order.map((at) => {
        const sum = (values) => values.reduce((all, one) => all + one, 0), side = judge?.chosen.draw === draws[at] ? mark("chosen", "up") : judge?.rejected.draw === draws[at] ? mark("rejected", "down") : null;
        return [[String(draws[at]), " ", side], fixed(rated.ratings[at], 1), score(of(draws[at])?.score), fixed(letters(of(draws[at])?.text || ""), 0), fixed(sum(rated.battles[at]), 2), fixed(sum(rated.battles.map((row) => row[at])), 2)];
      })),
      make("div", { class: "wide", tabindex: 0 }, make("table", { class: "heat" }, make("caption", {}, "Weight of wins, row over column; press a cell for the verdicts"),
        make("thead", {}, make("tr", {}, make("th", {}), order.map((at) => make("th", { scope: "col" }, String(draws[at]))))),
        make("tbody", {}, order.map((row) => make("tr", {}, make("th", { scope: "row" }, String(draws[row])), order.map((column) => {
          if (row === column) return make("td", {}, "");
          const weight = rated.battles[row][column], tie = rated.ties?.[row]?.[column];
          const press = () => show(draws[row], draws[column]);
          const cell = make("td", { class: "open", tabindex: 0, onclick: press, onkeydown: (event) => { if (event.key === "Enter") press(); }, ...hover("judgment " + draws[row] + " over judgment " + draws[column] + "\nweight " + fixed(weight, 3) + (tie ? "\nties " + fixed(tie, 3) : "")) }, weight ? fixed(weight, 2) : "\u00b7");
          cell.style.backgroundColor = "rgba(var(--high)," + (0.5 * (weight / most)).toFixed(2) + ")";
          return cell;
        })))))));
    if (order.length > 1) show(draws[order[0]], draws[order.at(-1)]);
  } else if (draws.length > 1) show(draws[0], draws[1]);
  const pairs = draws.flatMap((left, at) => draws.slice(at + 1).map((right) => [left, right])).filter(([left, right]) => verdict(left, right) || verdict(right, left));
  const wins = (one) => one === undefined ? "\u2013" : one.winner === "first" ? String(one.first) : one.winner === "second" ? String(one.second) : one.winner === "tie" ? "tie" : "unreadable";
  parts.push(panel, folded("All " + plural(pairs.length, "battle") + ", both orders", () => table(["judgments", "scores", "winner, as named", "winner, other order", "", ""], pairs.map(([left, right]) => {
    const one = wins(verdict(left, right)), other = wins(verdict(right, left));
    const decided = /^\d/.test(one) && /^\d/.test(other);
    return [left + " and " + right, score(of(left)?.score) + " and " + score(of(right)?.score), one, other, decided ? (one === other ? "agree" : mark("order decides", "down")) : "", make("button", { onclick: () => { show(left, right); panel.scrollIntoView({ block: "nearest" }); } }, "Show")];
  }))));
  return parts;
}

function remarkText(remark, draws) {
  if (typeof remark === "string") return remark.replaceAll("-", " ") + ".";
  const [name, value] = Object.entries(remark)[0];
  return Array.isArray(value) ? name + ": " + value.map((at) => "judgment " + draws[at]).join(", ") + "." : name.replaceAll("-", " ") + ": " + value + ".";
}

function heldOut(run, records) {
  const base = records.models.find((one) => one.name === run.base_model);
  const points = (model, draw) => model.points.find((one) => one.response === draw)?.points ?? null;
  return [
    promptText(records.prompt),
    make("h3", {}, "Answers"),
    make("div", { class: "stack" }, records.models.map((model) => make("article", { class: "answer" },
      make("div", { class: "head" }, make("b", {}, model.name), mean(model.points.map((one) => one.points)) !== null && make("span", {}, "mean points ", make("b", {}, fixed(mean(model.points.map((one) => one.points)), 2)))),
      make("div", { class: "stack" }, model.responses.map((response) => make("div", {}, make("div", { class: "head" }, "Response " + response.draw, points(model, response.draw) !== null && make("span", {}, score(points(model, response.draw)) + " points"), make("span", {}, plural(letters(response.text), "character")), ENDS[response.finish] && mark(ENDS[response.finish], "down")), modelText(response.text, true))))))),
    base && records.models.some((one) => one.judgments.length) ? [make("h3", {}, "What each judge says of the answers of " + base.name),
      table(["response", "oracle's points", ...records.models.map((model) => model.name)], base.responses.map((response) => [String(response.draw), score(points(base, response.draw)), ...records.models.map((model) => {
        const scores = model.judgments.filter((one) => one.response === response.draw);
        return [fixed(mean(scores.map((one) => one.score).filter((one) => one !== null)), 2), scores.length ? make("span", { class: "interval" }, scores.map((one) => (one.score === null ? "?" : score(one.score))).join(" ")) : null];
      })])),
      records.models.filter((model) => model.judgments.length).map((model) => folded("Judgments by " + model.name, () => make("div", { class: "stack" }, model.judgments.map((one) => make("div", {}, make("div", { class: "small soft" }, "of response " + one.response), judgment(one))))))] : null,
  ];
}
