// The live view: picture, score, chart and the preview of another threshold. All other pages work without it.
"use strict";

const byId = (id) => document.getElementById(id);
const svg = (name, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};

async function ask(path) {
  const answer = await fetch(`/api/v1/${path}`, { cache: "no-store" });
  if (answer.status === 401) location.assign("/login");
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

let hours = 1;
let drawn = null;

// The next picture is asked for once the last is there, so that a slow link gets fewer of them.
function picture() {
  const next = new Image();
  const later = (wait) => setTimeout(picture, document.hidden ? 5000 : wait);
  next.onload = () => {
    byId("live").src = next.src;
    later(500);
  };
  next.onerror = () => later(2000);
  next.src = `/api/v1/live.jpg?${Date.now()}`;
}

async function state() {
  let text;
  try {
    const now = await ask("state");
    byId("score").textContent = now.score === null ? "–" : now.score.toFixed(4);
    byId("threshold").textContent = now.threshold.toFixed(4);
    document.body.classList.toggle("over", now.score > now.threshold);
    const words = [`${now.frames_per_second.toFixed(0)} frames a second`];
    if (now.paused) words.push("alerts are paused");
    if (now.event) words.push("an event goes on");
    for (const trouble of now.troubles) words.push(`${trouble.trouble}: ${trouble.detail}`);
    text = words.join(" · ");
  } catch {
    text = "The device does not answer.";
  }
  // Said again only when it changes, so that nobody has it read out each second.
  if (byId("state").textContent !== text) byId("state").textContent = text;
  setTimeout(state, document.hidden ? 10000 : 1000);
}

function time(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString([], hours < 1 ? {} : { hour: "2-digit", minute: "2-digit" });
}

// The points in runs without a gap in time.
function runs(points, longest) {
  const all = [];
  for (const point of points) {
    const last = all.at(-1);
    if (last && point.time - last.at(-1).time <= longest) last.push(point);
    else all.push([point]);
  }
  return all;
}

function draw() {
  const [width, left, low] = [600, 46, 200];
  const { points, threshold } = drawn;
  const [from, to] = [drawn.since, drawn.until].map((text) => Date.parse(text) / 1000);
  const would = Number(byId("number").value);
  const top = 1.15 * Math.max(threshold, would, 1e-3, ...points.map((point) => point.max));
  const x = (seconds) => left + ((width - left - 6) * (seconds - from)) / (to - from);
  const y = (score) => low - ((low - 12) * score) / top;
  const line = (run, key) => run.map((point) => `${x(point.time)},${y(point[key])}`);
  const level = (score, name) => svg("line", { class: name, x1: left, x2: width - 6, y1: y(score), y2: y(score) });
  const label = (text, attributes) => {
    const element = svg("text", attributes);
    element.textContent = text;
    return element;
  };
  const parts = [];
  for (const run of runs(points, Math.max((to - from) / 100, 130))) {
    parts.push(svg("polygon", { class: "band", points: [...line(run, "max"), ...line(run, "min").reverse()].join(" ") }));
    parts.push(svg("polyline", { class: "mean", points: line(run, "mean").join(" ") }));
  }
  parts.push(level(threshold, "limit"));
  if (would !== threshold) parts.push(level(would, "would"));
  parts.push(label("0", { x: left - 6, y: low, "text-anchor": "end" }));
  parts.push(label(threshold.toFixed(3), { x: left - 6, y: y(threshold) + 4, "text-anchor": "end" }));
  for (const [share, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
    const at = from + share * (to - from);
    parts.push(label(time(at), { x: x(at), y: 216, "text-anchor": anchor }));
  }
  byId("chart").replaceChildren(...parts);
  const span = hours < 1 ? "5 minutes" : hours === 1 ? "hour" : `${hours} hours`;
  const highest = points.length > 0 ? Math.max(...points.map((point) => point.max)).toFixed(4) : "none";
  byId("chart-text").textContent =
    `The last ${span}: the mean score, and from the lowest to the highest. The highest was ${highest}, the threshold is ${threshold.toFixed(4)}.`;
  if (byId("table").closest("details").open) table(points);
}

function table(points) {
  const rows = points.slice(-60).reverse().map((point) => {
    const row = document.createElement("tr");
    for (const text of [time(point.time), ...["min", "mean", "max"].map((key) => point[key].toFixed(4))]) {
      row.insertCell().textContent = text;
    }
    return row;
  });
  byId("table").tBodies[0].replaceChildren(...rows);
}

async function chart() {
  try {
    drawn = await ask(`scores?hours=${hours}`);
    draw();
  } catch {
    // The state says that nobody answers.
  }
}

let asked = 0;
async function preview() {
  const mine = ++asked;
  const threshold = Number(byId("number").value);
  if (drawn) draw();
  let told;
  try {
    told = await ask(`preview?threshold=${threshold}`);
  } catch {
    return;
  }
  if (mine !== asked) return;
  const kept = told.since ? (Date.now() - Date.parse(told.since)) / 3600e3 : 0;
  const span = kept < 1 ? `${Math.ceil(kept * 60)} min` : `${kept.toFixed(1)} h`;
  const count = told.events.length === 1 ? "1 event" : `${told.events.length} events`;
  const last = told.events.slice(-3).reverse().map((event) => time(Date.parse(event.start) / 1000));
  const when = last.length > 0 ? `, the latest at ${last.join(", ")}` : "";
  byId("preview").textContent = `With ${threshold.toFixed(4)} the last ${span} would have had ${count}${when}.`;
}

if (byId("live")) {
  picture();
  state();
  chart();
  setInterval(() => document.hidden || chart(), 5000);
  for (const [one, other] of [["slider", "number"], ["number", "slider"]]) {
    byId(one).addEventListener("input", () => {
      byId(other).value = byId(one).value;
      preview();
    });
  }
  byId("table").closest("details").addEventListener("toggle", () => drawn && draw());
  const spans = [...document.querySelectorAll("[data-hours]")];
  for (const button of spans) {
    button.addEventListener("click", () => {
      hours = Number(button.dataset.hours);
      for (const other of spans) other.setAttribute("aria-pressed", String(other === button));
      chart();
    });
  }
}
