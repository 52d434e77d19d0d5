"use strict";

// The sections of the page, and what its controls do.

const NAMES = { success: "success, %", path_kl: "path KL, nats per action", kl_average: "path KL, running average" };
const state = { sort: {}, compare: { env: null } };

const title = (metric) => NAMES[metric] ?? metric.replaceAll("_", " ");
const shownTable = () => DATA.tables[Number(byId("phase").value)];
const unique = (values) => [...new Set(values)];

// ---- the top

function divergedReplicas() {
  return DATA.curves.flatMap((lines) =>
    lines.diverged.flatMap((step, i) =>
      step === null ? [] : [{ method: lines.method, env: lines.env, task: lines.tasks[i], seed: lines.seeds[i], step }],
    ),
  );
}

function renderSummary() {
  const replicas = DATA.curves.reduce((sum, lines) => sum + lines.tasks.length, 0);
  const envs = unique(DATA.curves.map((lines) => lines.env));
  const counts = [
    [DATA.runs.length, "run"],
    [DATA.methods.length, "method"],
    [envs.length, "domain"],
    [replicas, "replica"],
  ].map(([n, word]) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`);
  const unfinished = DATA.runs.filter((run) => !run.finished).length;
  const diverged = divergedReplicas().length;
  byId("summary").append(`${counts.join(", ")}. `);
  if (diverged) byId("summary").append(make("a", { href: "#diverged", class: "alarm" }, `${diverged} diverged.`), " ");
  if (unfinished) byId("summary").append(make("span", { class: "alarm" }, `${unfinished} unfinished.`));
  for (const section of document.querySelectorAll("main > section:not([hidden])")) {
    const name = section.querySelector("h2").textContent;
    byId("sections").append(make("a", { href: `#${section.id}` }, name));
  }
}

// ---- success

function renderResults() {
  const view = byId("view").value;
  const { corner, columns, rows } = shownTable()[view];
  const kept = columns.map((_, i) => i).filter((i) => passes(columns[i].label, byId("column-filter").value));
  const shown = rows.filter((row) => passes(row.label, byId("row-filter").value));
  const cells = shown.map((row) => [
    text(row.label),
    ...kept.map((i) => resultCell(row.cells[i], { ...columns[i], ...row, label: `${row.label}, ${columns[i].label}` })),
  ]);
  const key = [view, ...kept].join();
  state.sort[key] ??= { column: null, descending: false };
  fillTable(byId("results"), [{ label: corner }, ...kept.map((i) => columns[i])], cells, state.sort[key]);
  byId("results-caption").textContent = shownTable().caption;
}

function resultCell(cell, place) {
  const known = DATA.curves.some((lines) => lines.method === place.method && lines.env === place.env);
  const action = known ? () => openCurves(place) : null;
  const name = action ? `${place.label}: ${cell.text}. Open the curves` : null;
  return { text: cell.text, value: cell.mean, bold: cell.bold, action, name };
}

// ---- curves

/** Show one method's curves on a domain, or one of its tasks. */
function openCurves({ method, env, task, metric = "success" }) {
  byId("curve-env").value = env;
  fillTasks(task ?? "");
  for (const box of byId("curve-methods").querySelectorAll("input")) box.checked = Number(box.value) === method;
  fillMetrics(metric);
  renderCurves();
  byId("curves-title").focus({ preventScroll: true });
  byId("curves").scrollIntoView();
}

function chosenMethods() {
  return [...byId("curve-methods").querySelectorAll("input:checked")].map((box) => Number(box.value));
}

function chosenCurves() {
  const methods = chosenMethods();
  return DATA.curves.filter((lines) => lines.env === byId("curve-env").value && methods.includes(lines.method));
}

function fillTasks(chosen) {
  const own = DATA.curves.filter((lines) => lines.env === byId("curve-env").value);
  const tasks = unique(own.flatMap((lines) => lines.tasks)).sort((a, b) => a - b);
  fillSelect(byId("curve-task"), [["", "all"], ...tasks.map((task) => [task, task])], chosen);
}

function fillMetrics(chosen) {
  const metrics = unique(["success", ...chosenCurves().flatMap((lines) => Object.keys(lines.train))]);
  fillSelect(
    byId("curve-metric"),
    metrics.map((metric) => [metric, title(metric)]),
    chosen,
  );
  suggestLog();
}

/** A logarithmic axis for metrics that span decades. */
function suggestLog() {
  const values = chosenCurves()
    .flatMap((lines) => metricOf(lines).y.flat())
    .filter((y) => y !== null);
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const possible = byId("curve-metric").value !== "success" && low > 0 && values.length > 0;
  byId("curve-log").disabled = !possible;
  byId("curve-log").checked = possible && high > 50 * low;
}

/** Steps, and a list of values for every replica. */
function metricOf(lines) {
  const metric = byId("curve-metric").value;
  if (metric === "success") return { x: lines.steps, y: lines.success };
  return { x: lines.train_steps, y: lines.train[metric] ?? [] };
}

function renderCurves() {
  const charts = byId("curve-charts");
  clearCharts(charts);
  const found = chosenCurves().filter((lines) => metricOf(lines).y.length);
  const task = byId("curve-task").value;
  const tasks = task ? [Number(task)] : unique(found.flatMap((lines) => lines.tasks)).sort((a, b) => a - b);
  for (const one of tasks) {
    const lines = found.flatMap((own) => linesOf(own, one));
    if (lines.length) lineChart(charts, [...lines, ...budgetLines(found)], chartOptions(one, found));
  }
  byId("curve-caption").textContent = curveCaption(found);
}

function chartOptions(task, found) {
  const metric = byId("curve-metric").value;
  const success = metric === "success";
  return {
    title: `${byId("curve-env").value}, task ${task}: ${title(metric)}`,
    unit: success ? "\u00a0%" : "",
    range: success ? [-3, 103] : null,
    log: byId("curve-log").checked && !byId("curve-log").disabled,
    border: found.map((lines) => lines.border).find((border) => border !== null),
  };
}

/** A method's replicas of a task, thin, and their mean, thick. */
function linesOf(lines, task) {
  const { x, y } = metricOf(lines);
  const own = lines.tasks.map((_, i) => i).filter((i) => lines.tasks[i] === task);
  const colour = () => methodColour(lines.method);
  const name = DATA.methods[lines.method];
  const finite = own.filter((i) => lines.diverged[i] === null);
  const shown = byId("curve-seeds").checked ? own : own.filter((i) => lines.diverged[i] !== null);
  const seeds = shown.map((i) => ({
    label:
      `${name}, seed ${lines.seeds[i]}, task ${task}` +
      (lines.diverged[i] === null ? "" : `, diverged by update ${short(lines.diverged[i])}`),
    x,
    y: y[i],
    colour,
    width: 1,
    dash: lines.diverged[i] === null ? methodDash(lines.method) : DIVERGED_DASH,
    cross: crossAt(x, y[i], lines.diverged[i]),
  }));
  if (finite.length < 2)
    return seeds.length
      ? seeds
      : finite.map((i) => ({ label: `${name}, seed ${lines.seeds[i]}, task ${task}`, x, y: y[i], colour, width: 2.5 }));
  const mean = {
    label: `${name}, mean of ${finite.length} seeds, task ${task}`,
    x,
    y: meanOf(finite.map((i) => y[i])),
    colour,
  };
  return [...seeds, { ...mean, width: 2.5, dash: methodDash(lines.method) }];
}

/** The last value up to where the replica diverged. */
function crossAt(x, y, step) {
  if (step === null) return null;
  let last = null;
  for (let i = 0; i < x.length && x[i] <= step; i++) if (y[i] !== null) last = i;
  return last;
}

/** At every step the mean, where all have a value. */
function meanOf(lists) {
  return lists[0].map((_, i) => {
    const values = lists.map((list) => list[i]);
    return values.includes(null) ? null : values.reduce((a, b) => a + b, 0) / values.length;
  });
}

function budgetLines(found) {
  if (!["path_kl", "kl_average"].includes(byId("curve-metric").value)) return [];
  const x = unique(found.flatMap((lines) => lines.train_steps)).sort((a, b) => a - b);
  const ends = [x[0], x[x.length - 1]];
  const levels = unique(found.flatMap((lines) => lines.budgets));
  const colour = () => cssColour("--ink");
  return levels.map((level) => ({
    label: `KL budget ${level}`,
    x: ends,
    y: [level, level],
    colour,
    width: 1.2,
    dash: [3, 3],
  }));
}

function curveCaption(found) {
  if (!found.length) return "The chosen methods have no such curve on this domain.";
  const train = byId("curve-metric").value !== "success";
  const parts = [
    "Over updates since behaviour cloning. Thin: a seed. Thick: the mean of the seeds that have not diverged.",
  ];
  if (found.some((lines) => lines.diverged.some((step) => step !== null))) {
    parts.push("Dashed with a cross: a replica that diverged, the cross at its last value before.");
  }
  if (!train) parts.push("Step 0 is the BC policy.");
  else parts.push(`Rows of train.csv, at most ${DATA.points} of every replica, evenly over its steps.`);
  if (found.some((lines) => lines.border !== null)) parts.push("Shaded: the online phase.");
  parts.push("Drag to zoom, double-click to go back; arrow keys read values out.");
  return parts.join(" ");
}

// ---- diverged, settings, cost, videos

function renderDiverged() {
  const found = divergedReplicas();
  if (!found.length) {
    byId("diverged-table").replaceWith(make("p", {}, "None: every replica's losses stayed finite."));
    return;
  }
  const columns = [
    { label: "method" },
    { label: "domain", text: true },
    { label: "task" },
    { label: "seed" },
    { label: "seen at step" },
    { label: "show", text: true },
  ];
  const rows = found.map((one) => [
    text(DATA.methods[one.method]),
    text(one.env),
    { text: String(one.task), value: one.task },
    { text: String(one.seed), value: one.seed },
    { text: one.step.toLocaleString("en"), value: one.step },
    {
      text: "curves",
      value: "",
      action: () => openCurves(one),
      name: `Curves of ${DATA.methods[one.method]}, ${one.env}, task ${one.task}`,
    },
  ]);
  fillTable(byId("diverged-table"), columns, rows);
}

function runName(i) {
  const { agent, env, folder } = DATA.runs[i];
  return `${agent}, ${env} (${folder})`;
}

function renderSettings() {
  const [a, b] = ["run-a", "run-b"].map((id) => DATA.settings.own[Number(byId(id).value)]);
  const keys = unique([...Object.keys(a), ...Object.keys(b)])
    .filter((key) => a[key] !== b[key])
    .sort();
  const rows = keys.map((key) => [text(key), text(a[key] ?? "–"), text(b[key] ?? "–")]);
  const columns = [
    { label: "setting" },
    { label: "first run", text: true, long: true },
    { label: "second run", text: true, long: true },
  ];
  if (rows.length) fillTable(byId("settings-table"), columns, rows);
  else byId("settings-table").replaceChildren(make("p", {}, "No setting differs."));
}

function renderShared() {
  const rows = Object.entries(DATA.settings.shared).map(([key, value]) => [text(key), text(value)]);
  fillTable(byId("shared-table"), [{ label: "setting" }, { label: "value", text: true, long: true }], rows);
}

function renderCost() {
  const columns = [
    "agent",
    "domain",
    "replicas",
    "steps",
    "steps/s",
    "training, s",
    "evaluation, s",
    "env steps/s in evaluation",
    "folder",
  ];
  const texts = ["domain", "folder"];
  const rows = DATA.runs.map(({ agent, env, replicas, cost, folder, finished }) => [
    text(agent),
    text(env),
    number(replicas),
    number(cost.steps),
    number(cost.updates_per_second, 2),
    number(cost.train_seconds, 0),
    number(cost.eval_seconds, 0),
    number(cost.env_steps_per_second),
    text(finished ? folder : `${folder} (unfinished)`),
  ]);
  fillTable(
    byId("cost-table"),
    columns.map((label) => ({ label, text: texts.includes(label) })),
    rows,
  );
}

function renderVideos() {
  const linked = DATA.videos.filter((video) => video.link).length;
  const inside = DATA.videos.length - linked;
  byId("videos-note").textContent =
    `${inside} in this file` +
    (linked ? `; ${linked} did not fit and are links to the runs' folders, relative to this file.` : ".");
  const list = make("ul", { class: "videos" });
  for (const video of DATA.videos) list.append(make("li", {}, videoEntry(video)));
  byId("videos-list").append(list);
}

function videoEntry(video) {
  const { agent, env } = DATA.runs[video.run];
  const name = `${agent}, ${env}: ${video.name}`;
  if (video.link) return make("a", { href: video.link }, name);
  const entry = make("details", {}, make("summary", {}, name));
  entry.addEventListener("toggle", () => {
    if (entry.open && !entry.querySelector("img"))
      entry.append(make("img", { src: video.data, alt: `Episode: ${name}` }));
  });
  return entry;
}

// ---- start

function setUpTable() {
  fillSelect(
    byId("phase"),
    DATA.tables.map((one, i) => [i, `${one.phase}, step ${one.steps.map(short).join(" or ")}`]),
  );
  byId("phase").addEventListener("change", () => (renderResults(), renderCompare(shownTable(), state.compare)));
  byId("view").addEventListener("change", renderResults);
  for (const id of ["row-filter", "column-filter"]) byId(id).addEventListener("input", renderResults);
}

function setUpCurves() {
  const envs = unique(DATA.curves.map((lines) => lines.env));
  fillSelect(
    byId("curve-env"),
    envs.map((env) => [env, env]),
  );
  DATA.methods.forEach((name, i) => {
    const box = make("input", {
      type: "checkbox",
      value: i,
      onchange: () => (fillMetrics(byId("curve-metric").value), renderCurves()),
    });
    box.checked = true;
    byId("curve-methods").append(make("label", {}, box, swatch(i), name));
  });
  byId("curve-env").addEventListener(
    "change",
    () => (fillTasks(""), fillMetrics(byId("curve-metric").value), renderCurves()),
  );
  byId("curve-metric").addEventListener("change", () => (suggestLog(), renderCurves()));
  for (const id of ["curve-task", "curve-seeds", "curve-log"]) byId(id).addEventListener("change", renderCurves);
  byId("curve-seeds").checked = DATA.methods.length < 4;
  fillTasks("");
  fillMetrics("success");
}

function setUpCompare() {
  const methods = DATA.methods.map((name, i) => [i, name]);
  fillSelect(byId("first"), methods, 0);
  fillSelect(byId("second"), methods, 1);
  for (const id of ["first", "second", "compare-tasks"]) {
    byId(id).addEventListener("change", () => renderCompare(shownTable(), state.compare));
  }
}

function setUpSettings() {
  const runs = DATA.runs.map((_, i) => [i, runName(i)]);
  fillSelect(byId("run-a"), runs, 0);
  fillSelect(byId("run-b"), runs, Math.min(1, runs.length - 1));
  for (const id of ["run-a", "run-b"]) byId(id).addEventListener("change", renderSettings);
}

function start() {
  byId("compare").hidden = DATA.methods.length < 2;
  byId("settings").hidden = DATA.runs.length < 1;
  byId("videos").hidden = !DATA.videos.length;
  for (const form of document.querySelectorAll("form"))
    form.addEventListener("submit", (event) => event.preventDefault());
  renderSummary();
  setUpTable();
  setUpCurves();
  setUpCompare();
  setUpSettings();
  renderResults();
  renderCurves();
  renderCompare(shownTable(), state.compare);
  renderDiverged();
  renderSettings();
  renderShared();
  renderCost();
  renderVideos();
}

start();
