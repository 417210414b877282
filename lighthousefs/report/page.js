"use strict";
(async () => {
  const byId = (id) => document.getElementById(id);
  const packed = Uint8Array.from(atob(byId("data").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = JSON.parse(await new Response(stream).text());
  const { columns, tables } = data;
  const amount = columns.seq.length;
  const COLOURS = ["#1f77b4", "#e4801d", "#2f9e44", "#c92a2a", "#8250df", "#8c564b", "#d6409f", "#0b7285", "#a08b00", "#5c677d"];
  const LANES_MAX = 12, FILES_MAX = 30, BUCKETS = 60, PAGE = 200, LANE = 22, AXIS = 20, LEFT = 110;
  const OF_THE_STORE = 0, OF_CONTENTS = 2, TAKEN_BACK = ["created", "renamed"];

  const element = (tag, set = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(set)) name in made ? (made[name] = value) : made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const day = (ms) => new Date(ms).toISOString().slice(0, 10);
  const hour = (ms) => new Date(ms).toISOString().slice(11, 19);
  const clock = (ms) => `${day(ms)} ${hour(ms)}`;
  // What a terminal or a browser would obey instead of showing it.
  const plain = (text) => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (letter) => `\\u${letter.codePointAt(0).toString(16).padStart(4, "0")}`);
  const bytes = (value) => value < 1024 ? `${value} B` : value < 1048576 ? `${(value / 1024).toFixed(1)} KiB` : `${(value / 1048576).toFixed(1)} MiB`;
  const colour = (agent) => COLOURS[agent % COLOURS.length];
  const quoted = (path) => data.quoted[path] ?? tables.path[path];

  const begin = amount ? columns.time[0] : 0;
  const end = amount ? columns.time[amount - 1] : 1;
  const whole = [begin, Math.max(end + 1, begin + 1000)];
  let window_ = [...whole];
  let off = new Set();
  let needle = "";
  let shown = PAGE;
  let playing = 0;

  byId("title").textContent = plain(data.title);
  byId("summary").textContent = amount
    ? `${data.events} events in ${amount} changes, ${clock(begin)} to ${clock(end)} UTC, made ${data.made}`
    : "Nothing happened in this time.";

  // First place in a column that is not below a value.
  const place = (column, value) => {
    let low = 0, high = column.length;
    while (low < high) { const middle = (low + high) >> 1; column[middle] < value ? (low = middle + 1) : (high = middle); }
    return low;
  };
  const matches = (number) => !off.has(columns.agent[number]) && (!needle ||
    tables.path[columns.path[number]].toLowerCase().includes(needle) ||
    tables.agent[columns.agent[number]].toLowerCase().includes(needle));

  // Lanes: the busiest agents one each, the others together.
  const counts = tables.agent.map(() => 0);
  for (const agent of columns.agent) counts[agent] += 1;
  const ordered = counts.map((_, agent) => agent).sort((a, b) => counts[b] - counts[a]);
  const laneOf = counts.map(() => LANES_MAX - 1);
  const own = ordered.length > LANES_MAX ? LANES_MAX - 1 : ordered.length;
  ordered.slice(0, own).forEach((agent, lane) => { laneOf[agent] = lane; });
  const lanes = Math.min(ordered.length, LANES_MAX);
  const laneName = (lane) => lane < own ? tables.agent[ordered[lane]] : `${ordered.length - own} others`;

  const canvas = byId("timeline");
  const toX = (time, width) => LEFT + ((time - whole[0]) / (whole[1] - whole[0])) * (width - LEFT - 8);
  const toTime = (x, width) => whole[0] + ((x - LEFT) / (width - LEFT - 8)) * (whole[1] - whole[0]);
  const drawTimeline = () => {
    const width = canvas.clientWidth, height = lanes * LANE + AXIS, scale = devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    canvas.width = width * scale; canvas.height = height * scale;
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const style = getComputedStyle(document.body);
    const ink = style.color, dim = style.getPropertyValue("--dim"), line = style.getPropertyValue("--line");
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    const columnsWide = Math.max(1, Math.floor((width - LEFT - 8) / 3));
    const counted = Array.from({ length: lanes }, () => new Uint32Array(columnsWide + 1));
    for (let number = 0; number < amount; number++) {
      if (!matches(number)) continue;
      const at = Math.floor(((columns.time[number] - whole[0]) / (whole[1] - whole[0])) * columnsWide);
      counted[laneOf[columns.agent[number]]][at] += 1;
    }
    for (let lane = 0; lane < lanes; lane++) {
      const top = lane * LANE;
      pen.fillStyle = ink;
      pen.fillText(clip(pen, plain(laneName(lane)), LEFT - 12), 0, top + LANE / 2);
      pen.fillStyle = line;
      pen.fillRect(LEFT, top + LANE - 1, width - LEFT - 8, 1);
      const most = Math.log1p(Math.max(1, ...counted[lane]));
      pen.fillStyle = lane < own ? colour(ordered[lane]) : dim;
      counted[lane].forEach((value, at) => {
        if (!value) return;
        const tall = 4 + (LANE - 7) * (Math.log1p(value) / most);
        pen.fillRect(LEFT + at * 3, top + LANE - 2 - tall, 2, tall);
      });
    }
    pen.fillStyle = dim;
    const tell = day(whole[0]) === day(whole[1]) ? hour : clock;
    const ticks = Math.max(1, Math.floor((width - LEFT) / (pen.measureText(tell(whole[0])).width + 40)));
    for (let tick = 0; tick < ticks; tick++) {
      const time = whole[0] + ((whole[1] - whole[0]) * tick) / ticks;
      pen.fillText(tell(time), toX(time, width), lanes * LANE + AXIS / 2);
    }
    const [from, to] = window_.map((time) => toX(time, width));
    pen.fillStyle = style.getPropertyValue("--accent");
    pen.globalAlpha = 0.13;
    pen.fillRect(from, 0, Math.max(to - from, 2), lanes * LANE);
    pen.globalAlpha = 1;
    pen.fillRect(from - 1, 0, 2, lanes * LANE);
    pen.fillRect(to - 1, 0, 2, lanes * LANE);
  };
  const clip = (pen, text, width) => {
    if (pen.measureText(text).width <= width) return text;
    while (text && pen.measureText(`${text}…`).width > width) text = text.slice(0, -1);
    return `${text}…`;
  };

  const select = (from, to) => {
    from = Math.max(whole[0], Math.min(from, whole[1]));
    to = Math.max(whole[0], Math.min(to, whole[1]));
    window_ = from <= to ? [from, to] : [to, from];
    shown = PAGE;
    draw();
  };
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    stop();
    const width = canvas.clientWidth, x = event.offsetX, [from, to] = window_.map((time) => toX(time, width));
    const inside = x > from + 6 && x < to - 6 && (window_[0] > whole[0] || window_[1] < whole[1]);
    const at = toTime(x, width);
    if (Math.abs(x - from) <= 6) drag = { kind: "edge", fixed: window_[1] };
    else if (Math.abs(x - to) <= 6) drag = { kind: "edge", fixed: window_[0] };
    else drag = inside ? { kind: "move", at, was: [...window_] } : { kind: "edge", fixed: at };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const at = toTime(event.offsetX, canvas.clientWidth);
    if (drag.kind === "edge") select(drag.fixed, at);
    else shift(at - drag.at, drag.was);
  });
  canvas.addEventListener("pointerup", () => { drag = null; });
  canvas.addEventListener("dblclick", () => select(...whole));
  const shift = (by, was = window_) => {
    const length = was[1] - was[0];
    const from = Math.max(whole[0], Math.min(was[0] + by, whole[1] - length));
    select(from, from + length);
  };
  const step = (sign) => shift((sign * (window_[1] - window_[0])) / 4);
  canvas.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else return;
    event.preventDefault();
  });
  const stop = () => { clearInterval(playing); playing = 0; byId("play").textContent = "play"; };
  byId("all").onclick = () => { stop(); select(...whole); };
  byId("back").onclick = () => step(-1);
  byId("forth").onclick = () => step(1);
  byId("play").onclick = () => {
    if (playing) return stop();
    if (window_[1] - window_[0] > (whole[1] - whole[0]) / 2 || window_[1] >= whole[1]) {
      select(whole[0], whole[0] + (whole[1] - whole[0]) / 10);
    }
    byId("play").textContent = "stop";
    playing = setInterval(() => { window_[1] >= whole[1] ? stop() : shift((window_[1] - window_[0]) / 12); }, 200);
  };

  const inWindow = () => {
    const found = [];
    const last = place(columns.time, window_[1] + 1);
    for (let number = place(columns.time, window_[0]); number < last; number++) if (matches(number)) found.push(number);
    return found;
  };

  const drawHeat = (found) => {
    const heat = byId("heat");
    const files = new Map();
    const length = Math.max(1, window_[1] - window_[0]);
    for (const number of found) {
      if (columns.kind[number] === OF_THE_STORE) continue;
      const path = columns.path[number];
      let row = files.get(path);
      if (!row) files.set(path, (row = { sum: 0, cells: new Uint32Array(BUCKETS) }));
      row.sum += 1;
      row.cells[Math.min(BUCKETS - 1, Math.floor(((columns.time[number] - window_[0]) / length) * BUCKETS))] += 1;
    }
    const top = [...files].sort((a, b) => b[1].sum - a[1].sum).slice(0, FILES_MAX);
    const most = Math.log1p(Math.max(1, ...top.map(([, row]) => Math.max(...row.cells))));
    byId("filesnote").textContent = `${files.size} in the window${files.size > top.length ? `, the ${top.length} busiest shown` : ""}`;
    heat.replaceChildren(...top.flatMap(([path, row]) => {
      const name = plain(tables.path[path]) || ".";
      const button = element("button", { className: "name", title: name }, element("bdi", { textContent: name }));
      button.onclick = () => { byId("filter").value = needle = tables.path[path].toLowerCase(); draw(); };
      const cells = element("div", { className: "cells" });
      row.cells.forEach((value) => {
        const cell = element("i", value ? { title: `${value} changes` } : {});
        if (value) cell.style.setProperty("--a", String(0.2 + 0.8 * (Math.log1p(value) / most)));
        cells.append(cell);
      });
      return [button, cells, element("span", { className: "sum", textContent: row.sum })];
    }));
  };

  const drawAgents = () => {
    byId("agents").replaceChildren(...ordered.slice(0, 40).map((agent) => {
      const dot = element("i", { className: "dot" });
      dot.style.background = colour(agent);
      const button = element("button", {}, dot, plain(tables.agent[agent]));
      button.setAttribute("aria-pressed", String(!off.has(agent)));
      button.onclick = () => { off.has(agent) ? off.delete(agent) : off.add(agent); draw(); };
      return button;
    }));
  };

  const comeBack = (number) => {
    if (TAKEN_BACK.includes(tables.what[columns.what[number]])) {
      const spans = data.spans[number] ?? [[columns.first[number], columns.seq[number]]];
      return [...spans].reverse().map(([from, to]) => `lighthousefs undo ${data.target} ${from === to ? from : `${from}..${to}`}`).join("; ");
    }
    const before = columns.first[number] - 1;
    return `lighthousefs restore ${data.target} ${quoted(columns.path[number])} --at @${before}`;
  };
  const opened = (number) => {
    const inside = element("div", { className: "more" });
    const path = plain(tables.path[columns.path[number]]);
    if (path) inside.append(element("p", { className: "whole", textContent: path }));
    const diff = data.diffs[number];
    if (diff !== undefined) {
      inside.append(element("pre", {}, ...diff.split("\n").map((text) => element("span", {
        className: text.startsWith("+") ? "add" : text.startsWith("-") ? "cut" : text.startsWith("@@") ? "at" : "",
        textContent: plain(text) || " ",
      }))));
    } else if (columns.kind[number] === OF_CONTENTS) inside.append(element("p", { className: "hint", textContent: "No difference is kept here: not text, too large, or too long ago." }));
    if (columns.kind[number] === OF_THE_STORE) return inside;
    const isUndo = TAKEN_BACK.includes(tables.what[columns.what[number]]);
    const command = comeBack(number);
    if (!command) {
      inside.append(element("p", { className: "hint", textContent: "Its events lie among those of others: to take them back, " +
        "choose them from `lighthousefs log TARGET PATH --raw`." }));
      return inside;
    }
    const copy = element("button", { textContent: "copy" });
    copy.onclick = async () => { await navigator.clipboard.writeText(command); copy.textContent = "copied"; };
    inside.append(element("p", { className: "hint", textContent: isUndo ? "To take it back:" : "To have it back as it was before:" }),
      element("div", { className: "command" }, element("code", { textContent: command }), copy));
    return inside;
  };
  const drawChanges = (found) => {
    byId("count").textContent = `${found.length} in the window`;
    const rows = found.slice(-shown).reverse().map((number) => {
      const dot = element("i", { className: "dot" });
      dot.style.background = colour(columns.agent[number]);
      const written = columns.written[number] ? `+${bytes(columns.written[number])}` : "";
      const detail = plain(tables.detail[columns.detail[number]].replace(/^\+\d+/, written));
      const button = element("button", { className: "row" },
        element("span", { className: "seq", textContent: `@${columns.seq[number]}` }),
        element("span", { className: "time", textContent: clock(columns.time[number]) }),
        element("span", {}, dot, plain(tables.agent[columns.agent[number]])),
        element("span", { textContent: tables.what[columns.what[number]] }),
        element("span", { className: "path", title: plain(tables.path[columns.path[number]]) },
          element("span", { className: "where", textContent: plain(tables.path[columns.path[number]]) }),
          element("span", { className: "detail", textContent: detail })));
      const item = element("li", {}, button);
      button.setAttribute("aria-expanded", "false");
      button.onclick = () => {
        const is = item.childElementCount > 1;
        is ? item.lastChild.remove() : item.append(opened(number));
        button.setAttribute("aria-expanded", String(!is));
      };
      return item;
    });
    byId("changes").replaceChildren(...rows);
    byId("more").hidden = found.length <= shown;
  };
  byId("more").onclick = () => { shown += PAGE; drawChanges(inWindow()); };
  byId("filter").oninput = (event) => { needle = event.target.value.toLowerCase(); shown = PAGE; draw(); };

  const draw = () => {
    byId("window").textContent = amount ? `${clock(window_[0])} to ${clock(window_[1])}` : "";
    drawTimeline();
    const found = inWindow();
    drawHeat(found);
    drawAgents();
    drawChanges(found);
  };
  addEventListener("resize", drawTimeline);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTimeline);
  draw();
  document.body.dataset.ready = String(amount);
})();
