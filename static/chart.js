// Tables and charts of a visualization: SVG with the table behind, and the table alone where there is nothing to draw.

import { drawn, element, scrolling } from "/static/element.js";
import { language, say } from "/static/words.js";

const WIDTH = 640;
const HEIGHT = 260;
const EDGE = { left: 52, right: 10, top: 10, bottom: 34 };
/** What is beyond is in the table only. */
const MOST_POINTS = 500;
const MOST_SERIES = 6;
/** What is larger, or no number, has no place on a scale. */
const MOST = 1e300;
const TICKS = 5;

const short = new Intl.NumberFormat(language, { maximumFractionDigits: 2, notation: "compact" });

/** Shows a visualization. */
export function visualize({ kind, title, spec }) {
  const columns = spec?.columns ?? [];
  const rows = spec?.rows ?? [];
  const figure = element("figure", "visualization", element("figcaption", "", title ?? ""));
  const picture = kind === "table" ? null : picturing(kind, columns, rows, spec ?? {}, title ?? "");
  if (picture) {
    const details = element("details", "", element("summary", "", say.table), tableOf(columns, rows));
    figure.append(picture, details);
  } else {
    figure.append(tableOf(columns, rows));
  }
  return figure;
}

function tableOf(columns, rows) {
  const table = element("table", "");
  const head = table.createTHead().insertRow();
  for (const column of columns) {
    const cell = element("th", "", String(column.label ?? column.key));
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const column of columns) {
      line.append(element("td", column.type === "number" ? "number" : "", String(row[column.key] ?? "")));
    }
  }
  return scrolling(element("div", "scroll", table), say.table);
}

function picturing(kind, columns, rows, spec, title) {
  const numbers = columns.filter((column) => column.type === "number").map((column) => column.key);
  const x = spec.x ?? columns.find((column) => column.type !== "number")?.key ?? columns[0]?.key;
  const wanted = (spec.y ?? numbers).filter((key) => key !== x).slice(0, MOST_SERIES);
  const points = rows.slice(0, MOST_POINTS);
  const series = wanted.map((key) => {
    const label = columns.find((column) => column.key === key)?.label ?? key;
    return { label: String(label), values: points.map((row) => Number(row[key])).map((it) => (Math.abs(it) < MOST ? it : 0)) };
  });
  if (!points.length || !series.length) return null;
  const names = points.map((row) => String(row[x] ?? ""));
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  if (kind === "pie") pie(svg, names, series[0]);
  else if (kind === "bar" || kind === "line" || kind === "area") plot(svg, kind, names, series);
  else return null;
  if (kind === "pie" || series.length < 2) return svg;
  const entries = series.map(({ label }, number) => element("li", "", element("span", `swatch series-${number}`), label));
  return element("div", "", svg, element("ul", "legend", ...entries));
}

/** 1, 2 or 5 times a power of ten: the least of these that is no less. */
function rounded(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 5, 10].map((times) => times * power).find((round) => round >= step * 0.999);
}

function plot(svg, kind, names, series) {
  const all = series.flatMap(({ values }) => values);
  const step = rounded((Math.max(0, ...all) - Math.min(0, ...all)) / TICKS || 1 / TICKS);
  const low = Math.floor(Math.min(0, ...all) / step) * step;
  const high = Math.ceil(Math.max(0, ...all) / step) * step;
  const span = high - low || step;
  const [wide, tall] = [WIDTH - EDGE.left - EDGE.right, HEIGHT - EDGE.top - EDGE.bottom];
  const up = (value) => EDGE.top + (1 - (value - low) / span) * tall;
  const slot = wide / names.length;
  const middle = (index) => EDGE.left + (index + 0.5) * slot;
  for (let tick = 0; tick <= Math.round(span / step); tick += 1) {
    const value = low + tick * step;
    svg.append(drawn("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: up(value), y2: up(value) }));
    svg.append(drawn("text", { class: "tick left", x: EDGE.left - 6, y: up(value) + 4 }, short.format(value)));
  }
  const every = Math.ceil(names.length / 8);
  names.forEach((name, index) => {
    if (index % every) return;
    const text = name.length > 12 ? `${name.slice(0, 11)}…` : name;
    svg.append(drawn("text", { class: "tick below", x: middle(index), y: HEIGHT - EDGE.bottom + 18 }, text));
  });
  series.forEach(({ label, values }, number) => {
    const name = drawn("title", {}, label);
    const path = values.map((value, index) => `${middle(index)},${up(value)}`).join(" ");
    if (kind === "bar") {
      const width = (slot * 0.8) / series.length;
      values.forEach((value, index) => {
        const [top, bottom] = [up(Math.max(value, 0)), up(Math.min(value, 0))];
        const x = middle(index) - slot * 0.4 + number * width;
        const said = drawn("title", {}, `${names[index]}: ${value}`);
        svg.append(drawn("rect", { class: `series-${number}`, x, y: top, width, height: Math.max(bottom - top, 0.5) }, said));
      });
      return;
    }
    if (kind === "area") {
      const [first, last, floor] = [middle(0), middle(values.length - 1), up(Math.max(low, 0))];
      svg.append(drawn("polygon", { class: `area series-${number}`, points: `${first},${floor} ${path} ${last},${floor}` }));
    }
    svg.append(drawn("polyline", { class: `stroke stroke-${number}`, points: path }, name));
  });
}

function pie(svg, names, { values }) {
  const parts = values.map((value) => Math.max(value, 0));
  const total = parts.reduce((sum, part) => sum + part, 0) || 1;
  const [cx, cy, r] = [HEIGHT / 2, HEIGHT / 2, HEIGHT / 2 - 12];
  const at = (turn) => `${cx + r * Math.sin(2 * Math.PI * turn)} ${cy - r * Math.cos(2 * Math.PI * turn)}`;
  let from = 0;
  parts.forEach((part, index) => {
    const share = part / total;
    const said = drawn("title", {}, `${names[index]}: ${values[index]}`);
    const look = `series-${index % MOST_SERIES}`;
    // A whole circle has no two ends that an arc could join.
    if (share > 0.9999) svg.append(drawn("circle", { class: look, cx, cy, r }, said));
    else if (share > 0) {
      const arc = `M ${cx} ${cy} L ${at(from)} A ${r} ${r} 0 ${share > 0.5 ? 1 : 0} 1 ${at(from + share)} Z`;
      svg.append(drawn("path", { class: look, d: arc }, said));
    }
    from += share;
    if (index > 9) return;
    const y = 24 + index * 22;
    svg.append(drawn("rect", { class: look, x: HEIGHT + 20, y: y - 11, width: 12, height: 12 }));
    const name = names[index].length > 30 ? `${names[index].slice(0, 29)}…` : names[index];
    svg.append(drawn("text", { class: "tick", x: HEIGHT + 40, y }, `${name} · ${Math.round(share * 100)} %`));
  });
}
