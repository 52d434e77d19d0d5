"use strict";

// Charts of uPlot: lines that a pointer or the arrow keys read out, in the colours of the page's scheme.

const DATA = JSON.parse(document.getElementById("data").textContent);
const DARK_SCHEME = matchMedia("(prefers-color-scheme: dark)");
// What of the figures' palette is too dark on a dark page.
const ON_DARK = { "#0072B2": "#2f8fd6", "#882255": "#c2527f", "#555555": "#a3a3a3", "#D55E00": "#e8762b" };
const DASHES = [[], [8, 4], [10, 3, 2, 3], [2, 2]];
const DIVERGED_DASH = [5, 3];
const CHART_HEIGHT = 230;

let printing = false;
const drawn = new Set();

/** An element with attributes and children; texts become text nodes, never markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

/** 400, 250K, 1.5M: as the figures write steps. */
function short(number) {
  for (const [size, unit] of [
    [1e6, "M"],
    [1e3, "K"],
  ]) {
    if (Math.abs(number) >= size) return `${Number((number / size).toPrecision(6))}${unit}`;
  }
  return String(number);
}

function format(value) {
  return value !== 0 && (Math.abs(value) >= 1e5 || Math.abs(value) < 1e-3)
    ? value.toExponential(2).replace(/\.?0+e/, "e")
    : String(Number(value.toPrecision(4)));
}

function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function methodColour(i, dark = DARK_SCHEME.matches && !printing) {
  const colour = DATA.colours[i % DATA.colours.length];
  return dark ? (ON_DARK[colour] ?? colour) : colour;
}

function methodDash(i) {
  return DASHES[Math.floor(i / DATA.colours.length) % DASHES.length];
}

/** A line in the method's look, for legends. */
function swatch(i) {
  const element = make("span", { class: "swatch", "aria-hidden": "true" });
  element.style.setProperty("--light", methodColour(i, false));
  element.style.setProperty("--dark", methodColour(i, true));
  element.style.borderTopStyle = ["solid", "dashed", "double", "dotted"][Math.floor(i / DATA.colours.length) % 4];
  return element;
}

// ---- one chart

/**
 * Draw lines over steps.
 * lines: [{label, x, y, colour: () => string, width, dash, cross: an index into x or null, points: bool}]
 * options: {title, unit, log, range: [low, high] of a linear axis, border, axis: {x: what a value of x is called}}
 */
function lineChart(parent, lines, options) {
  const tables = lines.map((line) => [line.x, line.y]);
  const data = uPlot.join(tables);
  const readout = make("p", { class: "readout", "aria-live": "polite" });
  const place = make("div", {
    tabindex: "0",
    role: "group",
    "aria-label": `Chart ${options.title}, ${lines.length} lines. Left and right go along a line, up and down choose one.`,
  });
  parent.append(make("figure", {}, make("h4", {}, options.title), place, readout));
  const state = { series: null, index: null };
  const say = () => (readout.textContent = reading(data, lines, state, options));
  const size = () => ({ width: Math.max(200, place.clientWidth), height: CHART_HEIGHT });
  const plot = new uPlot({ ...size(), ...look(data, lines, options, state, say) }, data, place);
  place.addEventListener("keydown", (event) => onKey(event, plot, data, state, say));
  const observer = new ResizeObserver(() => plot.width !== size().width && plot.setSize(size()));
  observer.observe(place);
  const chart = {
    redraw: () => plot.redraw(true, true),
    remove: () => (observer.disconnect(), plot.destroy()),
    parent,
  };
  drawn.add(chart);
}

function clearCharts(parent) {
  for (const chart of drawn) {
    if (chart.parent === parent) {
      chart.remove();
      drawn.delete(chart);
    }
  }
  parent.replaceChildren();
}

function look(data, lines, options, state, say) {
  const ink = () => cssColour("--quiet");
  const grid = { stroke: () => cssColour("--grid"), width: 1 };
  const axis = { stroke: ink, grid, ticks: grid, font: "12px system-ui, sans-serif" };
  const values = (_, ticks) => ticks.map((tick) => (tick === null ? "" : short(tick)));
  const numbers = (_, ticks) => ticks.map((tick) => (tick === null ? "" : format(tick)));
  return {
    legend: { show: false },
    focus: { alpha: 0.25 },
    cursor: { focus: { prox: 1e6 }, points: { size: 8, one: true }, drag: { x: true, y: false }, y: false },
    scales: { x: { time: false, range: xRange(options) }, y: yScale(options) },
    axes: [
      { ...axis, values, space: 60, size: 32, ...options.xAxis },
      { ...axis, values: numbers, size: 60, ...(options.log ? DECADES : {}) },
    ],
    series: [{}, ...lines.map(series)],
    hooks: {
      drawClear: [(plot) => shade(plot, options.border)],
      draw: [(plot) => marks(plot, lines, options)],
      setSeries: [(_, i) => ((state.series = i), say())],
      setCursor: [(plot) => ((state.index = plot.cursor.idx ?? null), say())],
    },
  };
}

const MOST_DECADES = 5;

/** Ticks at powers of ten, not more than a chart has room for. */
const DECADES = {
  splits: (plot, axis, low, high) => {
    const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const stride = Math.max(1, Math.ceil((last - first) / MOST_DECADES));
    const count = Math.floor((last - first) / stride) + 1;
    return Array.from({ length: count }, (_, i) => Number(`1e${first + i * stride}`));
  },
  filter: (_, splits) => splits,
};

function series(line) {
  return {
    label: line.label,
    stroke: line.colour,
    width: line.width ?? 1,
    dash: line.dash ?? [],
    spanGaps: true,
    paths: line.points ? () => null : undefined,
    points: { show: line.points || line.x.length === 1, size: line.size ?? 7, fill: line.colour },
  };
}

function xRange(options) {
  return (_, low, high) => options.xRange ?? (low === high ? [low - 1, high + 1] : [low, high]);
}

function yScale(options) {
  if (options.log) return { distr: 3, range: (_, low, high) => logRange(low, high) };
  if (options.range) return { range: () => options.range };
  return { range: (_, low, high) => (low === null ? [0, 1] : uPlot.rangeNum(low, high, 0.1, true)) };
}

function logRange(low, high) {
  return low === null || low <= 0 ? [0.1, 10] : uPlot.rangeLog(low, low === high ? high * 10 : high, 10, true);
}

/** The online phase, as the figures shade it. */
function shade(plot, border) {
  if (border === null || border === undefined) return;
  const { ctx, bbox } = plot;
  const left = Math.max(bbox.left, plot.valToPos(border, "x", true));
  const width = bbox.left + bbox.width - left;
  if (width <= 0) return;
  ctx.save();
  ctx.fillStyle = cssColour("--shade");
  ctx.fillRect(left, bbox.top, width, bbox.height);
  ctx.restore();
}

/** Crosses where replicas diverged, and intervals. */
function marks(plot, lines, options) {
  const { ctx } = plot;
  const at = (x, y) => [plot.valToPos(x, "x", true), plot.valToPos(y, "y", true)];
  ctx.save();
  ctx.lineWidth = 2 * devicePixelRatio;
  ctx.setLineDash([]);
  for (const line of lines.filter((one) => one.cross !== null && one.cross !== undefined)) {
    const [x, y] = at(line.x[line.cross], line.y[line.cross]);
    const r = 4 * devicePixelRatio;
    ctx.strokeStyle = line.colour();
    stroke(ctx, [
      [x - r, y - r],
      [x + r, y + r],
    ]);
    stroke(ctx, [
      [x - r, y + r],
      [x + r, y - r],
    ]);
  }
  for (const { x, low, high } of options.intervals ?? []) {
    ctx.strokeStyle = cssColour("--ink");
    stroke(ctx, [at(x, low), at(x, high)]);
  }
  ctx.restore();
}

function stroke(ctx, [from, to]) {
  ctx.beginPath();
  ctx.moveTo(...from);
  ctx.lineTo(...to);
  ctx.stroke();
}

// ---- reading values

/** What is under the pointer, in words. */
function reading(data, lines, { series, index }, options) {
  if (!series || index === null) return "";
  const i = nearest(data[series], index);
  if (i === null) return "";
  const place = options.place?.(data[0][i]) ?? `step ${short(data[0][i])}`;
  return `${lines[series - 1].label}, ${place}: ${format(data[series][i])}${options.unit ?? ""}`;
}

/** The index next to the given one at which the line has a value. */
function nearest(values, index) {
  for (let d = 0; d < values.length; d++) {
    for (const i of [index - d, index + d]) if (values[i] !== null && values[i] !== undefined) return i;
  }
  return null;
}

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function onKey(event, plot, data, state, say) {
  const [along, across] = KEYS[event.key] ?? [0, 0];
  if (!along && !across) return;
  event.preventDefault();
  const count = data.length - 1;
  const series = (((state.series ?? 1) - 1 + across + count) % count) + 1;
  let index = nearest(data[series], state.index ?? data[0].length - 1);
  if (index === null) return;
  for (let i = index + along; along && i >= 0 && i < data[0].length; i += along) {
    if (data[series][i] !== null && data[series][i] !== undefined) {
      index = i;
      break;
    }
  }
  plot.setSeries(series, { focus: true });
  plot.setCursor({ left: plot.valToPos(data[0][index], "x"), top: plot.valToPos(data[series][index], "y") }, false);
  Object.assign(state, { series, index });
  say();
}

// ---- the page's scheme

function redrawAll() {
  for (const chart of drawn) chart.redraw();
}

DARK_SCHEME.addEventListener("change", redrawAll);
addEventListener("beforeprint", () => ((printing = true), redrawAll()));
addEventListener("afterprint", () => ((printing = false), redrawAll()));
