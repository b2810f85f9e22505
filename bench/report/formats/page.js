"use strict";
// The page's behaviour: sorting, origins of numbers, curves, latency, image by image. All text goes in as text, never
// as markup. Certificates are compared at full precision; only what is printed is rounded, radii downwards.
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, text, attributes = {}) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };

  // ---- tables: sorting, and where a number comes from ----
  for (const table of document.querySelectorAll("table.report")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, k) => heading.firstElementChild.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      headings.forEach((other) => other.setAttribute("aria-sort", "none"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(a.cells[k].dataset.key, b.cells[k].dataset.key, up));
      table.tBodies[0].append(...rows);
    }));
    // One stop of the Tab key a table; the arrows move within it.
    const cells = () => [...table.tBodies[0].rows].map((row) => [...row.cells]);
    const first = cells()[0]?.[0];
    if (first) first.tabIndex = 0;
    table.tBodies[0].addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      const from = event.target.closest("td, th");
      if (!step || !from) return;
      const grid = cells();
      const row = grid.findIndex((line) => line.includes(from));
      const to = grid[row + step[0]]?.[grid[row].indexOf(from) + step[1]];
      if (!to) return;
      event.preventDefault();
      from.removeAttribute("tabindex");
      to.tabIndex = 0;
      to.focus();
    });
    const tell = (event) => {
      const cell = event.target.closest("td, th");
      if (!cell?.dataset.origin) return;
      byId("origin").textContent = `${cell.firstChild.textContent}: ${cell.dataset.origin} `;
      for (const [digest] of cell.dataset.origin.matchAll(/\b[0-9a-f]{10}\b/g)) {
        const run = byId(`run-${digest}`);
        if (!run) continue;
        const link = make("a", `about run ${digest}`, { href: `#run-${digest}` });
        link.addEventListener("click", () => { run.open = true; });
        byId("origin").append(link, " ");
      }
    };
    table.tBodies[0].addEventListener("focusin", tell);
    table.tBodies[0].addEventListener("click", tell);
  }

  function compare(a, b, up) {
    if (a === "" || b === "") return (a === "") - (b === ""); // what is not reported comes last, either way
    const [x, y] = [Number(a), Number(b)];
    const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
    return up ? order : -order;
  }

  if (!byId("page-data")) return;

  // ---- what is explored ----
  const pageData = JSON.parse(byId("page-data").textContent);
  const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B07A00", "#2A8FCC", "#000000"];
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down", "pentagon", "hourglass"];
  const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
  const ABSTAIN = -1;
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const points = (fraction) => (100 * fraction).toFixed(1);
  const rounded_down = (radius) => { // toFixed(20) is exact to the digits that are cut off
    const text = radius.toFixed(20);
    return text.slice(0, text.indexOf(".") + 4);
  };
  let group, methods, sigmas;

  const steps = (run) => (run.steps ??= run.rows
    .filter(([image, label]) => label === group.images[image][1])
    .map((row) => row[2]).sort((a, b) => a - b));
  const certified = (run, radius) => steps(run).filter((step) => step >= radius).length;
  // Of a run whose images may stop, counts between its radii are known from below alone.
  const bound_of = (radius) => group.stops && !group.radii.some(([known]) => known === radius) ? "at least " : "";
  const interval = (run, count) => group.intervals[run.rows.length][count];
  const words = (run, radius) => {
    const count = certified(run, radius);
    const [low, high] = interval(run, count);
    return bound_of(radius) + `${points(count / run.rows.length)} % (${count} of ${run.rows.length} images), interval [${points(low)}, ${points(high)}]`;
  };
  const checked = (id) => new Set([...byId(id).querySelectorAll("input:checked")].map((box) => box.value));
  const shown = () => {
    const [m, s] = [checked("methods"), checked("sigmas")];
    return group.runs.filter((run) => m.has(run.method) && s.has(run.sigma));
  };
  const look = (run) => {
    const k = methods.indexOf(run.method);
    return {
      color: COLOURS[k % COLOURS.length],
      symbol: SYMBOLS[k % SYMBOLS.length],
      dash: DASHES[sigmas.indexOf(run.sigma) % DASHES.length],
    };
  };
  const count_of = (n) => n === null ? "not stated" : String(n).replace(/\B(?=(\d{3})+$)/g, "\u00a0");
  const name = (run) => `${run.method}, sigma ${run.sigma}`;
  const fill = (table, caption, lines, numeric) => {
    byId(table).caption.textContent = caption;
    byId(table).tBodies[0].replaceChildren(...lines.map((line) => {
      const row = make("tr");
      line.forEach((entry, k) => {
        const cell = k ? make("td") : make("th", undefined, { scope: "row" });
        if (numeric.includes(k)) cell.className = "number";
        cell.append(entry);
        row.append(cell);
      });
      return row;
    }));
  };

  const FRAME = { margin: { l: 60, r: 20, t: 20, b: 55 }, hovermode: "closest", font: { size: 13, color: "#1d1d1f" } };
  // The library also has buttons that send the plot elsewhere: only those that stay on the page are named.
  const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

  // The tables say what the plots show; of these a screen reader hears the name and the buttons.
  const draw = (id, traces, layout) => Plotly.react(id, traces, { ...FRAME, ...layout }, CONFIG)
    .then(() => document.querySelectorAll("svg").forEach((svg) => svg.setAttribute("aria-hidden", "true")));

  function drawCurves() {
    const traces = [];
    let last = 0;
    for (const run of shown()) {
      const { color, symbol, dash } = look(run);
      const xs = [...new Set([0, ...steps(run)])].sort((a, b) => a - b);
      const counts = xs.map((x) => certified(run, x));
      last = Math.max(last, xs.at(-1));
      xs.push(xs.at(-1));
      counts.push(0);
      const line = { color, dash, width: 1.8, shape: "vh" }; // on (r_k, r_k+1] it is what it is at r_k+1
      const common = { x: xs, mode: "lines", legendgroup: run.id, showlegend: false };
      if (byId("bands").checked) {
        const edge = { ...line, width: 0 };
        traces.push({ ...common, y: counts.map((k) => 100 * interval(run, k)[0]), line: edge, hoverinfo: "skip" });
        traces.push({ ...common, y: counts.map((k) => 100 * interval(run, k)[1]), line: edge, hoverinfo: "skip", fill: "tonexty", fillcolor: color + "22" });
      }
      traces.push({
        ...common, y: counts.map((k) => 100 * k / run.rows.length), line, hoverinfo: "text",
        text: xs.map((x, j) => plain(name(run)) + (j === xs.length - 1 ? "<br>beyond: nothing is certified"
          : `<br>r = ${rounded_down(x)}: ${words(run, x)}`)),
      });
      const marks = group.radii.map(([radius]) => radius).filter((radius) => radius <= xs.at(-1));
      traces.push({
        x: marks, y: marks.map((radius) => 100 * certified(run, radius) / run.rows.length), mode: "markers",
        marker: { color, symbol, size: 9 }, name: plain(name(run)), legendgroup: run.id, hoverinfo: "text",
        text: marks.map((radius) => plain(name(run)) + `<br>r = ${radius}: ${words(run, radius)}`),
      });
    }
    draw("curve-plot", traces, {
      xaxis: { title: { text: "l2 radius r (pixels in [0, 1])" }, range: [-0.01 * last, 1.04 * last || 1] },
      yaxis: { title: { text: "certified accuracy (%)" }, range: [-1, 101] },
    });
    drawValues();
  }

  function drawValues() {
    const radius = Number(byId("radius").value);
    const runs = Number.isFinite(radius) && radius >= 0 && byId("radius").value !== "" ? shown() : [];
    const lines = runs.map((run) => [run, certified(run, radius)])
      .sort(([a, x], [b, y]) => y / b.rows.length - x / a.rows.length)
      .map(([run, count]) => {
        const [low, high] = interval(run, count);
        const of = run.rows.length === run.expected ? "" : ` (of ${run.expected}: incomplete)`;
        return [run.method + (run.random ? " ! random weights" : ""), run.sigma, bound_of(radius) + points(count / run.rows.length),
          `[${points(low)}, ${points(high)}]`, `${count} of ${run.rows.length}${of}`];
      });
    const caption = runs.length ? `Certified accuracy at r = ${radius}, ${pageData.confidence} Wilson intervals`
      : "Nothing to show: choose a method, a sigma and a radius of at least 0";
    fill("curve-table", caption, lines, [2, 4]);
  }

  // ---- accuracy over seconds ----
  function drawLatency() {
    const radius = Number(byId("latency-radius").value);
    const text = byId("latency-radius").selectedOptions[0].textContent;
    const marks = shown().map((run) => ({
      method: run.method, sigma: run.sigma, n: group.n, source: `measured here (${run.device})`, seconds: run.seconds,
      height: 100 * certified(run, radius) / run.rows.length,
      marker: { ...look(run), size: 11 }, label: name(run),
    }));
    const table = pageData.published;
    const k = table && table.dataset === group.dataset ? table.radii.findIndex(([r]) => r === radius) : -1;
    if (k >= 0) {
      for (const row of table.rows) {
        if (row.seconds === null || row.values[k] === null) continue;
        marks.push({
          method: row.method, sigma: "best", n: row.n, source: `quoted: ${table.source} (${table.hardware})`, seconds: row.seconds,
          height: 100 * row.values[k], label: `${row.method} (quoted)`,
          marker: { color: "#55585c", symbol: "diamond-open", size: row.millions ? 7 + Math.sqrt(row.millions) : 9 },
        });
      }
    }
    draw("latency-plot", marks.map((mark) => ({
      x: [mark.seconds], y: [mark.height], mode: "markers+text", name: plain(mark.label), hoverinfo: "text",
      marker: { ...mark.marker, line: { width: 1 } },
      text: [mark.sigma === "best" ? "" : `σ=${mark.sigma}`], textposition: "top center", textfont: { size: 10 },
      hovertext: [`${plain(mark.label)}<br>${mark.seconds.toPrecision(3)} s, ${mark.height.toFixed(1)} %, N=${count_of(mark.n)}<br>${plain(mark.source)}`],
    })), {
      xaxis: { title: { text: "seconds per image (log scale)" }, type: "log" },
      yaxis: { title: { text: `certified accuracy at r = ${text} (%)` }, rangemode: "tozero" },
    });
    fill("latency-table", `Certified accuracy at r = ${text} over seconds per image; measured: median over the images of a run`,
      marks.map((m) => [m.method, m.sigma, m.source, count_of(m.n), m.seconds.toPrecision(3), m.height.toFixed(1)]), [3, 4, 5]);
    byId("latency-note").textContent = k < 0 ? `All measured here, at N=${count_of(group.n)}.`
      : `Measured here at N=${count_of(group.n)}; quoted at N=${[...new Set(table.rows.map((row) => row.n))].map(count_of).join(", ")} `
        + `on ${table.hardware}. Seconds grow with N and depend on the device: measured and quoted ones do not compare.`;
  }

  // ---- image by image ----
  const title = (label) => group.classes[label] && group.classes[label] !== String(label) ? `${label} (${group.classes[label]})` : String(label);
  const row_of = (run, image) => (run.by_image ??= new Map(run.rows.map((row) => [row[0], row]))).get(image);

  function listImages() {
    const kind = byId("filter").value;
    const runs = shown();
    const kept = group.images.map((_, k) => k).filter((k) => {
      const right = runs.map((run) => row_of(run, k)).filter(Boolean).map((row) => row[1] === group.images[k][1]);
      return kind === "all" || (kind === "none" ? !right.some(Boolean) : new Set(right).size > 1);
    });
    const before = byId("image").value;
    byId("image").replaceChildren(...kept.map((k) => make("option", `${group.images[k][0]}, label ${title(group.images[k][1])}`, { value: k })));
    if (kept.map(String).includes(before)) byId("image").value = before;
    byId("image-count").textContent = `${kept.length} of ${group.images.length} images`;
    drawImage();
  }

  function drawImage() {
    const select = byId("image");
    const figure = byId("image-figure");
    figure.hidden = select.value === "";
    byId("previous").disabled = select.selectedIndex <= 0;
    byId("next").disabled = select.selectedIndex >= select.options.length - 1;
    if (select.value === "") return fill("verdicts", "No image of that kind; choose other methods, or all images", [], []);
    const k = Number(select.value);
    const [index, label] = group.images[k];
    const words_of_image = `image ${index} of ${group.dataset}, label ${title(label)}`;
    const picture = figure.querySelector("img");
    picture.hidden = !group.pictures[k];
    if (group.pictures[k]) picture.src = group.pictures[k]; else picture.removeAttribute("src");
    picture.alt = words_of_image;
    figure.querySelector("figcaption").textContent = words_of_image + (group.pictures[k] ? "" : "; no picture");
    const lines = shown().filter((run) => row_of(run, k)).map((run) => {
      const [, promised, radius, bound, votes, rest] = row_of(run, k);
      const pairs = [];
      for (let j = 0; j < votes.length; j += 2) pairs.push([votes[j], votes[j + 1]]);
      const total = pairs.reduce((sum, [, n]) => sum + n, rest);
      const of_label = pairs.find(([c]) => c === label)?.[1] ?? 0;
      const cell = make("span", pairs.map(([c, n]) => `${title(c)}: ${n}`).join(", ") + (rest ? `, others: ${rest}` : ""));
      const bar = make("span", undefined, { class: "bar", "aria-hidden": "true" });
      bar.append(make("i", undefined, { style: `width: ${100 * of_label / total}%` }));
      cell.append(bar);
      const verdict = promised === ABSTAIN ? (group.stops ? "– not certified" : "– abstains") : promised === label ? "✓ right, certified" : "✗ wrong class";
      return [run.method, run.sigma, verdict, promised === ABSTAIN ? "none" : title(promised),
        promised === ABSTAIN ? "–" : (group.stops ? "at least " : "") + rounded_down(radius), bound.toFixed(4), cell];
    });
    fill("verdicts", `Verdicts on ${words_of_image}; the bar is the share of votes for the true class`, lines, [4, 5]);
  }

  function step(by) {
    byId("image").selectedIndex += by;
    drawImage();
  }

  // ---- choices ----
  const redraw = () => { drawCurves(); drawLatency(); listImages(); };

  function choose() {
    group = pageData.groups[Number(byId("group").value)];
    methods = [...new Set(group.runs.map((run) => run.method))];
    sigmas = [...new Set(group.runs.map((run) => run.sigma))].sort((a, b) => a - b);
    byId("group-caption").textContent = group.caption;
    // All methods at one noise level: what the field compares, and no more lines than an eye can follow.
    for (const [id, values, on] of [["methods", methods, () => true], ["sigmas", sigmas, (_, k) => k === 0]]) {
      byId(id).querySelectorAll("label").forEach((old) => old.remove());
      values.forEach((value, k) => {
        const label = make("label");
        const box = make("input", undefined, { type: "checkbox", value });
        box.checked = on(value, k);
        box.addEventListener("change", redraw);
        label.append(box, ` ${value}`);
        byId(id).append(label);
      });
    }
    byId("latency-radius").replaceChildren(...group.radii.map(([radius, text]) => make("option", text, { value: radius })));
    redraw();
  }

  byId("group").addEventListener("change", choose);
  byId("bands").addEventListener("change", drawCurves);
  byId("radius").addEventListener("input", drawValues);
  byId("latency-radius").addEventListener("change", drawLatency);
  byId("filter").addEventListener("change", listImages);
  byId("image").addEventListener("change", drawImage);
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  choose();
})();
