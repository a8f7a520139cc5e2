// Charts: drawn at the width that they have, drawn again when it changes, with the numbers at the pointer.

const tip = make("div", { id: "tip", role: "status", hidden: true });

function showTip(event, text) {
  tip.hidden = false;
  tip.replaceChildren(...shown(text));
  const box = tip.getBoundingClientRect();
  const left = event.clientX + 14 + box.width > innerWidth ? event.clientX - 14 - box.width : event.clientX + 14;
  const top = event.clientY - 10 - box.height < 0 ? event.clientY + 18 : event.clientY - 10 - box.height;
  tip.style.left = Math.max(4, left) + "px";
  tip.style.top = Math.max(4, top) + "px";
}

function hideTip() {
  tip.hidden = true;
}

addEventListener("scroll", hideTip, { passive: true, capture: true });

/** What shows a text at the pointer. */
function hover(text) {
  return {
    onpointermove: (event) => showTip(event, text),
    onpointerdown: (event) => showTip(event, text),
    onpointerleave: hideTip,
  };
}

/** Round numbers from low to high, about so many. */
function ticks(low, high, about) {
  const raw = (high - low) / Math.max(1, about);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((part) => part * power).find((part) => part >= raw * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step)
    found.push(Number(at.toPrecision(12)));
  // One mark says nothing of the scale.
  return found.length < 2 && about < 8 ? ticks(low, high, about + 1) : found;
}

/** Marks of an axis as texts, with the digits that tell them apart. */
function tickTexts(marks) {
  const step = marks.length > 1 ? marks[1] - marks[0] : Math.abs(marks[0]) || 1;
  const greatest = Math.max(...marks.map(Math.abs));
  if (greatest && greatest < 1e-3)
    return marks.map((at) =>
      at ? at.toExponential(step >= 10 ** Math.floor(Math.log10(greatest)) ? 0 : 1).replace("-", "\u2212") : "0",
    );
  const digits = [0, 1, 2, 3, 4, 5, 6].find((count) => Math.abs(step - Number(step.toFixed(count))) < step * 1e-6) ?? 6;
  return marks.map((at) => fixed(at, digits));
}

/** Least and greatest of numbers. */
function extent(values) {
  return values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
}

/** Low and high of numbers, with a little room. */
function range(values, room = 0.05) {
  const kept = values.filter((value) => value !== null && Number.isFinite(value));
  if (!kept.length) return [0, 1];
  let [low, high] = extent(kept);
  if (low === high) {
    low -= Math.abs(low) * 0.1 || 1;
    high += Math.abs(high) * 0.1 || 1;
  }
  return [low - room * (high - low), high + room * (high - low)];
}

/** A figure with its name, what it says to those who do not see it, its picture, and its table. */
function chart(spec, paint) {
  const picture = draw("svg", { role: "img", "aria-label": spec.label || spec.title });
  const figure = make(
    "figure",
    {},
    make("figcaption", {}, spec.title, spec.note && make("span", { class: "soft" }, "\u2002" + spec.note)),
    picture,
  );
  if (spec.table) figure.append(folded("Numbers", spec.table));
  let width = 0;
  const repaint = () => {
    const now = Math.round(picture.clientWidth || figure.clientWidth || 320);
    if (!now || now === width) return;
    width = now;
    const height = typeof spec.height === "function" ? spec.height(width) : spec.height;
    picture.setAttribute("viewBox", "0 0 " + width + " " + height);
    picture.setAttribute("height", height);
    picture.replaceChildren();
    paint(picture, width, height);
  };
  new ResizeObserver(repaint).observe(picture);
  return figure;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

/** Mean over a window around each point, so that a trend shows through steps that differ. */
function smooth(points) {
  const half = Math.max(1, Math.round(points.length / 24));
  return points.map(([x], place) => {
    const near = points.slice(Math.max(0, place - half), place + half + 1);
    return [x, near.reduce((sum, point) => sum + point[1], 0) / near.length];
  });
}

/** Curves. A series: name, place (its colour), dash, points of [x, y]. */
function lineChart(spec) {
  const series = spec.series.filter((one) => one.points.length);
  const every = series.flatMap((one) => one.points);
  const names = series.map((one) => one.name);
  spec.height ||= 190;
  spec.table ||= () =>
    table(
      [spec.x, ...names],
      [...new Set(every.map((point) => point[0]))]
        .sort((a, b) => a - b)
        .map((x) => [
          String(x),
          ...series.map((one) => {
            const point = one.points.find((at) => at[0] === x);
            return point ? short(point[1]) : "\u2013";
          }),
        ]),
    );
  return chart(spec, (picture, width, height) => {
    const left = 44,
      right = width - 8,
      top = 8,
      bottom = height - 22;
    const [x0, x1] = extent(every.map((p) => p[0]));
    let [y0, y1] = spec.range || range(every.map((p) => p[1]));
    const X = (x) => (x1 === x0 ? (left + right) / 2 : left + ((x - x0) / (x1 - x0)) * (right - left));
    const Y = (y) => bottom - ((y - y0) / (y1 - y0)) * (bottom - top);
    const marks = ticks(y0, y1, 4),
      texts = tickTexts(marks);
    marks.forEach((y, place) =>
      picture.append(
        draw("line", { class: "grid", x1: left, x2: right, y1: Y(y), y2: Y(y) }),
        draw("text", { x: left - 6, y: Y(y) + 4, "text-anchor": "end" }, texts[place]),
      ),
    );
    const steps = spec.names
      ? spec.names.map((_, place) => place).filter((x) => x >= x0 && x <= x1)
      : ticks(x0, x1, width < 360 ? 4 : 6).filter(Number.isInteger);
    for (const x of steps)
      picture.append(
        draw("text", { x: X(x), y: height - 6, "text-anchor": "middle" }, spec.names ? spec.names[x] : fixed(x, 0)),
      );
    if (y0 < 0 && y1 > 0) picture.append(draw("line", { class: "zero", x1: left, x2: right, y1: Y(0), y2: Y(0) }));
    for (const y of spec.lines || [])
      if (y.at > y0 && y.at < y1) {
        picture.append(
          draw("line", { class: "hair", x1: left, x2: right, y1: Y(y.at), y2: Y(y.at) }),
          draw("text", { x: right, y: Y(y.at) - 4, "text-anchor": "end" }, y.name),
        );
      }
    const path = (points) =>
      points.map(([x, y], place) => (place ? "L" : "M") + X(x).toFixed(1) + " " + Y(y).toFixed(1)).join("");
    for (const one of series) {
      const rough = one.points.length > 8;
      const style = {
        class: colour(one.place),
        fill: "none",
        stroke: "currentColor",
        "stroke-linejoin": "round",
        "stroke-dasharray": one.dash ? "5 3" : null,
      };
      if (rough) picture.append(draw("path", { ...style, "stroke-width": 1, opacity: 0.22, d: path(one.points) }));
      picture.append(draw("path", { ...style, "stroke-width": 1.9, d: path(rough ? smooth(one.points) : one.points) }));
      if (!rough)
        for (const [x, y] of one.points)
          picture.append(draw("circle", { class: colour(one.place), cx: X(x), cy: Y(y), r: 3, fill: "currentColor" }));
    }
    const hair = draw("line", { class: "hair", y1: top, y2: bottom, visibility: "hidden" });
    const at = (event) => {
      const box = picture.getBoundingClientRect();
      const x = x0 + ((event.clientX - box.left - left) / (right - left)) * (x1 - x0);
      const near = every.reduce(
        (best, point) => (Math.abs(point[0] - x) < Math.abs(best - x) ? point[0] : best),
        every[0][0],
      );
      hair.setAttribute("x1", X(near));
      hair.setAttribute("x2", X(near));
      hair.setAttribute("visibility", "visible");
      const lines = series
        .map((one) => [one.name, one.points.find((point) => point[0] === near)])
        .filter((pair) => pair[1]);
      showTip(
        event,
        spec.x +
          " " +
          (spec.names ? spec.names[near] : near) +
          lines.map(([name, point]) => "\n" + name + "  " + short(point[1])).join(""),
      );
    };
    picture.append(
      hair,
      draw("rect", {
        x: left,
        y: 0,
        width: Math.max(0, right - left),
        height: bottom,
        fill: "transparent",
        onpointermove: at,
        onpointerdown: at,
        onpointerleave: () => {
          hair.setAttribute("visibility", "hidden");
          hideTip();
        },
      }),
    );
  });
}

/** A dot per row with an interval, or with two nested ranges. A row: name, place, value, low, high, inner, text. */
function dotChart(spec) {
  const rows = spec.rows.filter((row) => row.value !== null && row.value !== undefined);
  const line = rows.length > 16 ? 19 : 25;
  spec.height = rows.length * line + 24;
  return chart(spec, (picture, width, height) => {
    const longest = Math.max(...rows.map((row) => plain(row.name).length), 2);
    const left = Math.min(width * 0.42, longest * 6.6 + 12),
      right = width - (spec.values === false ? 10 : 46),
      bottom = height - 22;
    const [x0, x1] =
      spec.range ||
      range(
        rows
          .flatMap((row) => [row.value, row.low, row.high])
          .concat(spec.guide ?? [])
          .filter((x) => x !== undefined && x !== null),
        0.08,
      );
    const X = (x) => left + ((x - x0) / (x1 - x0)) * (right - left);
    const marks = ticks(x0, x1, Math.max(2, Math.floor((right - left) / 62))),
      texts = tickTexts(marks);
    marks.forEach((x, place) =>
      picture.append(
        draw("line", { class: "grid", x1: X(x), x2: X(x), y1: 2, y2: bottom }),
        draw("text", { x: X(x), y: height - 6, "text-anchor": "middle" }, texts[place]),
      ),
    );
    if (spec.guide !== undefined)
      picture.append(draw("line", { class: "hair", x1: X(spec.guide), x2: X(spec.guide), y1: 0, y2: bottom }));
    rows.forEach((row, place) => {
      const y = place * line + line / 2 + 2;
      const name = plain(row.name),
        room = Math.max(3, Math.floor((left - 10) / 6.2));
      picture.append(
        draw(
          "text",
          { class: "strong", x: 0, y: y + 4 },
          name.length > room ? name.slice(0, room - 1) + "\u2026" : name,
        ),
      );
      const ink = { class: colour(row.place), stroke: "currentColor", "stroke-linecap": "round" };
      if (row.low !== undefined && row.low !== null)
        picture.append(
          draw("line", { ...ink, x1: X(row.low), x2: X(row.high), y1: y, y2: y, "stroke-width": 1.8, opacity: 0.75 }),
        );
      if (row.inner)
        picture.append(
          draw("line", {
            ...ink,
            x1: X(row.inner[0]),
            x2: X(row.inner[1]),
            y1: y,
            y2: y,
            "stroke-width": 7,
            opacity: 0.45,
          }),
        );
      picture.append(
        draw("circle", { class: colour(row.place), cx: X(row.value), cy: y, r: 4.2, fill: "currentColor" }),
      );
      if (spec.values !== false)
        picture.append(
          draw("text", { class: "strong", x: width, y: y + 4, "text-anchor": "end" }, row.shown || short(row.value)),
        );
      picture.append(
        draw("rect", { x: 0, y: y - line / 2, width, height: line, fill: "transparent", ...hover(row.text) }),
      );
    });
  });
}

/** Bars over values. A bar: at, share, text; onpick is called with a bar that is pressed. */
function barChart(spec) {
  spec.height ||= 132;
  return chart(spec, (picture, width, height) => {
    const left = 2,
      right = width - 2,
      top = 14,
      bottom = height - 24;
    const [x0, x1] = spec.domain;
    const step = spec.step || 1;
    const X = (x) => left + ((x - x0 + step / 2) / (x1 - x0 + step)) * (right - left);
    const most = spec.most || Math.max(...spec.bars.map((bar) => bar.share), 1e-9);
    const wide = Math.max(1.5, ((right - left) / (x1 - x0 + step)) * step - 2);
    picture.append(draw("line", { class: "axis", x1: left, x2: right, y1: bottom + 0.5, y2: bottom + 0.5 }));
    for (const bar of spec.bars) {
      const high = (bar.share / most) * (bottom - top);
      picture.append(
        draw("rect", {
          class: colour(spec.place),
          x: X(bar.at) - wide / 2,
          y: bottom - high,
          width: wide,
          height: Math.max(high, bar.share ? 0.8 : 0),
          fill: "currentColor",
          opacity: 0.82,
          rx: 1,
        }),
      );
      if (bar.share > 0.004 && wide > 22)
        picture.append(
          draw("text", { x: X(bar.at), y: bottom - high - 4, "text-anchor": "middle" }, fixed(100 * bar.share, 0)),
        );
      picture.append(
        draw("rect", {
          x: X(bar.at) - wide / 2 - 1,
          y: 0,
          width: wide + 2,
          height: bottom,
          fill: "transparent",
          ...hover(bar.text),
          onclick: spec.onpick && (() => spec.onpick(bar)),
          cursor: spec.onpick ? "pointer" : null,
        }),
      );
    }
    for (const x of spec.labels)
      picture.append(draw("text", { x: X(x), y: height - 6, "text-anchor": "middle" }, score(x)));
    if (spec.mean !== undefined && spec.mean !== null) {
      const at = X(spec.mean);
      picture.append(draw("path", { d: "M" + at + " " + (bottom + 1) + "l-4 6h8z", fill: "currentColor" }));
    }
  });
}

/** Names of the colours. */
function legend(items) {
  return make(
    "div",
    { class: "legend" },
    items.map((item) =>
      make("span", {}, make("i", { class: colour(item.place) + (item.dash ? " dash" : "") }), item.name),
    ),
  );
}
