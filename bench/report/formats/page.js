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

  // ---- light and dark: as the system has it, until the reader chooses ----
  const dark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  let recolour = () => {};
  const themed = () => {
    byId("theme").textContent = dark() ? "Light" : "Dark";
    byId("theme").setAttribute("aria-label", dark() ? "Show the page in light colours" : "Show the page in dark colours");
    recolour();
  };
  byId("theme").hidden = false;
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    themed();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => themed());
  themed();

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
  // Colours and markers are those of the figures; dashes tell noise levels apart.
  const look = (run) => ({ color: run.colour, symbol: run.symbol, dash: DASHES[sigmas.indexOf(run.sigma) % DASHES.length] });
  const count_of = (n) => n === null ? "not stated" : String(n).replace(/\B(?=(\d{3})+$)/g, "\u00a0");
  const name = (run) => `${run.method}, sigma ${run.sigma}`;
  const fill = (table, caption, lines, numeric) => {
    byId(table).caption.firstElementChild.textContent = caption;
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

  const narrow = () => window.innerWidth < 640;
  const frame = () => {
    const of = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const axis = { gridcolor: of("--line"), zeroline: false, linecolor: of("--soft"), showline: true, ticks: "outside", ticklen: 4, tickcolor: of("--soft"), automargin: true, tickangle: 0, nticks: narrow() ? 6 : 10 };
    return {
      margin: narrow() ? { l: 46, r: 10, t: 10, b: 44 } : { l: 60, r: 16, t: 14, b: 52 }, hovermode: "closest", showlegend: false,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", axis,
      font: { size: narrow() ? 11 : 13, color: of("--ink"), family: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: of("--line"), activecolor: of("--soft") },
      hoverlabel: { bgcolor: of("--ground"), bordercolor: of("--soft"), font: { color: of("--ink") }, align: "left" },
    };
  };
  // The library also has buttons that send the plot elsewhere: only those that stay on the page are named.
  const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

  // The tables say what the plots show; of these a screen reader hears the name and the buttons.
  const draw = (id, traces, { xaxis, yaxis }) => {
    const { axis, ...rest } = frame();
    return Plotly.react(id, traces, { ...rest, xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis } }, CONFIG).then(() => document.querySelectorAll("svg").forEach((svg) => svg.setAttribute("aria-hidden", "true")));
  };

  // The methods' boxes are the legend: each has its colour and marker beside it, each sigma its dashes.
  const PATHS = {
    circle: "M6 0a6 6 0 1 0 .01 0z", square: "M0 0h12v12h-12z", diamond: "M6-1L13 6L6 13L-1 6z", "diamond-tall": "M6-2L11 6L6 14L1 6z",
    "triangle-up": "M6 0L12.5 11.5H-.5z", "triangle-down": "M6 12L12.5 .5H-.5z", "triangle-left": "M0 6L11.5-.5V12.5z", "triangle-right": "M12 6L.5-.5V12.5z",
    cross: "M4 0h4v4h4v4h-4v4h-4v-4h-4v-4h4z", x: "M3 0L6 3L9 0L12 3L9 6L12 9L9 12L6 9L3 12L0 9L3 6L0 3z",
    star: "M6-1.5L7.9 3.9L13.6 4L9 7.5L10.7 13L6 9.7L1.3 13L3 7.5L-1.6 4L4.1 3.9z", pentagon: "M6-.5L12.3 4.1L9.9 11.5H2.1L-.3 4.1z",
    hexagon: "M6-.5L11.7 2.8V9.2L6 12.5L.3 9.2V2.8z", hexagon2: "M-.5 6L2.8 .3H9.2L12.5 6L9.2 11.7H2.8z", octagon: "M3.5 0h5L12 3.5v5L8.5 12h-5L0 8.5v-5z",
  };
  const drawing = (width, attributes) => {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    for (const [key, value] of Object.entries({ class: "swatch", width, height: 12, viewBox: `0 0 ${width} 12`, "aria-hidden": "true" })) svg.setAttribute(key, value);
    const path = document.createElementNS(space, "path");
    for (const [key, value] of Object.entries(attributes)) path.setAttribute(key, value);
    svg.append(path);
    return svg;
  };
  const swatch = (run) => drawing(12, {
    d: PATHS[run.symbol.replace("-open", "")], fill: run.symbol.endsWith("-open") ? "none" : run.colour, stroke: run.colour, "stroke-width": 1.4,
  });
  const STROKES = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "11 4", longdashdot: "11 3 2 3" };
  const stroke = (k) => drawing(26, { d: "M0 6H26", fill: "none", stroke: "currentColor", "stroke-width": 1.6, "stroke-dasharray": STROKES[DASHES[k % DASHES.length]] });

  function drawCurves() {
    const traces = [];
    let last = 0;
    // The emphasised method is drawn last, above the others.
    for (const run of [...shown()].sort((a, b) => a.emphasised - b.emphasised)) {
      const { color, symbol, dash } = look(run);
      const xs = [...new Set([0, ...steps(run)])].sort((a, b) => a - b);
      const counts = xs.map((x) => certified(run, x));
      last = Math.max(last, xs.at(-1));
      xs.push(xs.at(-1));
      counts.push(0);
      const line = { color, dash, width: run.emphasised ? 3 : 1.6, shape: "vh" }; // on (r_k, r_k+1] it is what it is at r_k+1
      const common = { x: xs, mode: "lines", legendgroup: run.id };
      if (byId("bands").checked) {
        const edge = { ...line, width: 0 };
        traces.push({ ...common, y: counts.map((k) => 100 * interval(run, k)[0]), line: edge, hoverinfo: "skip" });
        traces.push({ ...common, y: counts.map((k) => 100 * interval(run, k)[1]), line: edge, hoverinfo: "skip", fill: "tonexty", fillcolor: color + "2b" });
      }
      traces.push({
        ...common, y: counts.map((k) => 100 * k / run.rows.length), line, hoverinfo: "text",
        text: xs.map((x, j) => plain(name(run)) + (j === xs.length - 1 ? "<br>beyond: nothing is certified"
          : `<br>r = ${rounded_down(x)}: ${words(run, x)}`)),
      });
      const marks = group.radii.map(([radius]) => radius).filter((radius) => radius <= xs.at(-1));
      traces.push({
        x: marks, y: marks.map((radius) => 100 * certified(run, radius) / run.rows.length), mode: "markers",
        marker: { color, symbol, size: symbol.startsWith("star") ? 12 : 8 }, name: plain(name(run)), legendgroup: run.id, hoverinfo: "text",
        text: marks.map((radius) => plain(name(run)) + `<br>r = ${radius}: ${words(run, radius)}`),
      });
    }
    draw("curve-plot", traces, {
      xaxis: { title: { text: "l2 radius r (pixels in [0, 1])" }, range: [-0.012 * last, 1.03 * last || 1] },
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
  const around = (heights) => { // no narrower than 10 points: small differences are not made to look large
    const [low, high] = [Math.min(...heights, 100), Math.max(...heights, 0)];
    const room = Math.max(2, 0.15 * (high - low), 5 - (high - low) / 2);
    return [Math.max(-1, low - room), Math.min(103, high + room)];
  };
  // The first side of each marker on which its label meets neither a marker nor a label that stands already.
  const placed = (spots) => {
    const boxes = spots.map(({ x, y, rim }) => [x - rim, y - rim, x + rim, y + rim]);
    return spots.map(({ x, y, rim, letters }) => {
      const [width, tall] = [6.5 * letters, 7];
      const sides = {
        "middle right": [x + rim, y - tall, x + rim + width, y + tall], "middle left": [x - rim - width, y - tall, x - rim, y + tall],
        "top center": [x - width / 2, y + rim, x + width / 2, y + rim + 2 * tall], "bottom center": [x - width / 2, y - rim - 2 * tall, x + width / 2, y - rim],
      };
      const meets = ([a, b, c, d]) => boxes.some(([e, f, g, h]) => a < g - 1 && e < c - 1 && b < h - 1 && f < d - 1);
      const side = letters ? Object.keys(sides).find((each) => !meets(sides[each])) ?? "middle right" : "middle right";
      if (letters) boxes.push(sides[side]);
      return side;
    });
  };

  function drawLatency() {
    const radius = Number(byId("latency-radius").value);
    const text = byId("latency-radius").selectedOptions[0].textContent;
    const untimed = shown().filter((run) => run.seconds === null).map(name);
    const marks = shown().filter((run) => run.seconds !== null).map((run) => ({
      method: run.method, sigma: run.sigma, n: group.n, source: run.timed, seconds: run.seconds,
      height: 100 * certified(run, radius) / run.rows.length,
      marker: { color: run.colour, symbol: run.symbol, size: run.emphasised ? 16 : 11 }, label: name(run), text: "",
    }));
    const table = pageData.published;
    const k = table && table.dataset === group.dataset ? table.radii.findIndex(([r]) => r === radius) : -1;
    if (k >= 0) {
      for (const row of table.rows) {
        if (row.seconds === null || row.values[k] === null) continue;
        marks.push({
          method: row.method, sigma: "best", n: row.n, source: `quoted: ${table.source} (${table.hardware})`, seconds: row.seconds,
          height: 100 * row.values[k], label: `${row.method} (quoted)`, text: row.emphasised ? `<b>${plain(row.method)}</b>` : plain(row.method),
          marker: { color: row.colour, symbol: row.symbol, size: row.millions ? 6 + 0.8 * Math.sqrt(row.millions) : 9 },
        });
      }
    }
    const logs = marks.map((mark) => Math.log10(mark.seconds));
    const wide = Math.max(...logs, -9) - Math.min(...logs, 9);
    const span = marks.length ? [Math.min(...logs) - Math.max(0.06 * wide + 0.1, 0.25), Math.max(...logs) + Math.max((narrow() ? 0.06 : 0.13) * wide + 0.1, 0.25)] : [-1, 1];
    const heights = around(marks.map((mark) => mark.height));
    const sides = placed(marks.map((mark, j) => ({ // in pixels, near enough to tell which labels would meet
      x: (logs[j] - span[0]) / (span[1] - span[0]) * (byId("latency-plot").clientWidth - 76), letters: mark.text.replace(/<[^>]*>/g, "").length,
      y: (mark.height - heights[0]) / (heights[1] - heights[0]) * (byId("latency-plot").clientHeight - 66), rim: mark.marker.size / 2,
    })));
    draw("latency-plot", marks.map((mark, j) => ({
      x: [mark.seconds], y: [mark.height], mode: narrow() ? "markers" : "markers+text", name: plain(mark.label), hoverinfo: "text",
      marker: { ...mark.marker, line: { width: 1.5, color: mark.marker.color } },
      text: [mark.text], textposition: sides[j], textfont: { size: 11 }, cliponaxis: false,
      hovertext: [`${plain(mark.label)}<br>${mark.seconds.toPrecision(3)} s, ${mark.height.toFixed(1)} %, N=${count_of(mark.n)}<br>${plain(mark.source)}`],
    })), {
      xaxis: { title: { text: "seconds per image (log scale)" }, type: "log", range: span, dtick: span[1] - span[0] > 1.7 ? 1 : "D2" },
      yaxis: { title: { text: `certified accuracy at r = ${text} (%)` }, range: heights },
    });
    fill("latency-table", `Certified accuracy at r = ${text} over seconds per image`,
      marks.map((m) => [m.method, m.sigma, m.source, count_of(m.n), m.seconds.toPrecision(3), m.height.toFixed(1)]), [3, 4, 5]);
    const want = untimed.length ? ` Without seconds on that device, not drawn: ${untimed.join(", ")}.` : "";
    byId("latency-note").textContent = (k < 0 ? `All from here, at N=${count_of(group.n)}.`
      : `Measured here at N=${count_of(group.n)}; quoted at N=${[...new Set(table.rows.map((row) => row.n))].map(count_of).join(", ")} `
        + `on ${table.hardware}. Seconds grow with N and depend on the device: measured and quoted ones do not compare.`) + want;
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
        if (id === "methods") {
          const run = group.runs.find((each) => each.method === value);
          label.append(box, swatch(run), value);
          if (run.emphasised) label.className = "loud";
        } else label.append(box, stroke(k), value);
        byId(id).append(label);
      });
    }
    byId("latency-radius").replaceChildren(...group.radii.map(([radius, text]) => make("option", text, { value: radius })));
    byId("latency-radius").selectedIndex = Math.min(1, group.radii.length - 1); // at 0 nothing is robust yet
    redraw();
  }

  recolour = () => { drawCurves(); drawLatency(); };
  let width = window.innerWidth;
  window.addEventListener("resize", () => { // letters and labels fit the width
    if ((width < 640) !== narrow()) recolour();
    width = window.innerWidth;
  });
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
