"use strict";

// Two methods under the same seeds: the differences that were computed with the page, by domain, task and seed.

/** The rows of a pair, turned round if it was computed the other way: differences change their sign. */
function pairRows(table, first, second) {
  return table.pairs
    .filter((row) => (row.first === first && row.second === second) || (row.first === second && row.second === first))
    .map((row) => (row.first === first ? row : reversed(row)));
}

function reversed(row) {
  const minus = (x) => (-Number(x)).toFixed(1).replace(/^-0\.0$/, "0.0");
  return {
    ...row,
    means: [row.means[1], row.means[0]],
    difference: minus(row.difference),
    interval: row.interval && [minus(row.interval[1]), minus(row.interval[0])],
    better: (1 - Number(row.better)).toFixed(2),
  };
}

function scopeName(row) {
  if (row.env === null) return "all tasks that both have";
  return row.task === null ? row.env : `${row.env}, task ${row.task}`;
}

function renderCompare(table, state) {
  const first = Number(byId("first").value);
  const second = Number(byId("second").value);
  const rows = first === second ? [] : pairRows(table, first, second);
  byId("compare-summary").textContent = compareSummary(rows, first, second);
  const domains = rows.filter((row) => row.env !== null && row.task === null);
  const row = domains.find((one) => one.env === state.env) ?? domains[0];
  const choose = (env) => {
    state.env = env;
    renderCompare(table, state);
    byId("compare-domain").scrollIntoView({ block: "nearest" });
  };
  fillCompareTable(rows, first, second, row, choose);
  renderSeeds(table, row, rows, first, second);
}

function compareSummary(rows, first, second) {
  const names = [first, second].map((i) => DATA.methods[i]);
  if (first === second) return "Choose two different methods.";
  if (!rows.length) return `${names.join(" and ")} have no seed and task in common (in one protocol).`;
  const { difference, interval, better, seeds } = rows[0];
  const range = interval ? `, 95 % interval [${interval.join(", ")}]` : "";
  const scope = rows[0].env === null ? "over all tasks that both have" : `on ${scopeName(rows[0])}`;
  return `${names[0]} minus ${names[1]} ${scope}: ${difference}${range} (${seeds.length} seeds); P(better) ${better}.`;
}

function fillCompareTable(rows, first, second, chosen, choose) {
  const tasks = byId("compare-tasks").checked;
  const shown = rows.filter((row) => row.task === null || tasks);
  const columns = [
    "scope",
    DATA.methods[first],
    DATA.methods[second],
    "difference",
    "95 % interval",
    "P(better)",
    "seeds",
  ];
  const cells = shown.map((row) => {
    const action = row.env === null ? null : () => choose(row.env);
    return [
      text(scopeName(row), { action, name: action ? `Differences by seed on ${scopeName(row)}` : null }),
      ...row.means.map((mean) => number(Number(mean))),
      { text: row.difference, value: Number(row.difference), bold: excludesZero(row) },
      { text: row.interval ? `[${row.interval.join(", ")}]` : "–", value: row.interval && Number(row.interval[0]) },
      { text: row.better, value: Number(row.better) },
      { text: seedsText(row), value: row.seeds.length },
    ].map((cell) => ({ ...cell, chosen: row === chosen }));
  });
  if (rows.length)
    fillTable(
      byId("compare-table"),
      columns.map((label) => ({ label })),
      cells,
    );
  else byId("compare-table").replaceChildren();
}

function excludesZero(row) {
  return row.interval !== null && Number(row.interval[0]) * Number(row.interval[1]) > 0;
}

function seedsText(row) {
  return row.left_out.length ? `${row.seeds.length} (without ${row.left_out.join(", ")})` : String(row.seeds.length);
}

/** A domain's differences, a point for every seed and task, and as a table. */
function renderSeeds(table, row, rows, first, second) {
  const chart = byId("compare-chart");
  clearCharts(chart);
  byId("compare-seeds").replaceChildren();
  byId("compare-domain").textContent = row ? `${row.env}: difference of every seed and task, percentage points` : "";
  if (!row) return;
  const tasks = sharedTasks(table, row.env, first, second);
  const seeds = [...new Set(tasks.flatMap((task) => [...task.differences.keys()]))].sort((a, b) => a - b);
  const columns = [{ label: "seed" }, ...tasks.map(({ task }) => ({ label: `task ${task}` }))];
  const cells = seeds.map((seed) => [
    { text: String(seed), value: seed },
    ...tasks.map(({ differences }) => number(differences.get(seed))),
  ]);
  fillTable(byId("compare-seeds"), columns, cells);
  differenceChart(chart, row, rows, tasks, seeds);
}

function sharedTasks(table, env, first, second) {
  const of = (method) => table.ends.filter((one) => one.method === method && one.env === env);
  return of(first).flatMap((ours) => {
    const theirs = of(second).find((one) => one.task === ours.task);
    if (!theirs) return [];
    const other = new Map(theirs.seeds.map((seed, i) => [seed, theirs.success[i]]));
    const both = ours.seeds
      .map((seed, i) => [seed, ours.success[i] - other.get(seed)])
      .filter(([seed]) => other.has(seed));
    return [{ task: ours.task, differences: new Map(both) }];
  });
}

function differenceChart(parent, row, rows, tasks, seeds) {
  const x = tasks.map(({ task }) => task);
  const lines = seeds.map((seed, i) => ({
    label: `seed ${seed}`,
    x: x.map((task) => task + ((i + 1) / (seeds.length + 1) - 0.5) * 0.6), // side by side
    y: tasks.map(({ differences }) => differences.get(seed) ?? null),
    colour: () => cssColour("--accent"),
    points: true,
    size: 6,
  }));
  const own = tasks.map(({ task }) => rows.find((one) => one.env === row.env && one.task === task) ?? row);
  const ink = () => cssColour("--ink");
  const y = own.map((one) => Number(one.difference));
  lines.push({ label: "mean of the seeds", x, y, colour: ink, points: true, size: 9 });
  const low = Math.min(...x) - 0.5;
  const high = Math.max(...x) + 0.5;
  lines.push({ label: "no difference", x: [low, high], y: [0, 0], colour: ink, dash: [3, 3] });
  lineChart(parent, lines, {
    title: "bars: 95 % interval of the mean",
    xRange: [low, high],
    xAxis: { splits: () => x, values: (_, ticks) => ticks.map((tick) => `task ${tick}`) },
    place: (value) => `task ${Math.round(value)}`,
    intervals: own.flatMap((one, i) =>
      one.interval ? [{ x: x[i], low: Number(one.interval[0]), high: Number(one.interval[1]) }] : [],
    ),
  });
}
