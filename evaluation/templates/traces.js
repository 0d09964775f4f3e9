// Traces of the epoch that is shown, in mm of the screen: one scale for the whole night.
const ROW_MM = TRACES.length > 2 ? 26 : 34;
const EVENTS = { spindle: ["spindles", "#00695c"], slow_wave: ["slow waves", "#4a148c"], k_complex: ["K-complexes", "#4a148c"],
                 rem: ["eye movements", "#b71c1c"], blink: ["blinks", "#795548"] };
let gain = 1, withNeighbours = false;

const firstShown = () => withNeighbours ? -EPOCH : 0;
const secondsShown = () => withNeighbours ? 3 * EPOCH : EPOCH;

// Columns of an epoch: least and largest code of each. The last few stay decoded.
function codesOf(trace, k) {
  const decoded = trace.decoded ??= new Map();
  if (!decoded.has(k)) {
    if (decoded.size > 8) decoded.delete(decoded.keys().next().value);
    decoded.set(k, bytes(trace.epochs[k]));
  }
  return decoded.get(k);
}

// Draws the columns of one epoch as an unbroken line; a gap of the recording stays empty.
function drawColumns(pen, trace, k, x, y) {
  const codes = codesOf(trace, k), columns = codes.length / 2, step = trace.step[k], offset = trace.offset[k];
  let last = null;
  for (let j = 0; j < columns; j++) {
    const low = codes[2 * j], high = codes[2 * j + 1], at = x((j + .5) / columns);
    if (low > high) { last = null; continue; }
    // the nearer end first, so that the line does not double back
    const [one, other] = last !== null && Math.abs(last - high) < Math.abs(last - low) ? [high, low] : [low, high];
    if (last === null) pen.moveTo(at, y(offset + step * one)); else pen.lineTo(at, y(offset + step * one));
    if (one !== other) pen.lineTo(at, y(offset + step * other));
    last = other;
  }
}

function unitOf(trace) {
  return trace.unit || "of no unit";
}

function traceRow(trace, place) {
  const range = rangeOf(trace, current), perMm = trace.per_mm / gain;
  const canvas = canvasAt($("traces"), place, trace.label + ", " + (range === null ? "not recorded" : "from " + short(range[0]) + " to " + short(range[1]) + " " + unitOf(trace)));
  const shown = panel(canvas, ROW_MM * MM), { pen, inner, height } = shown, seconds = secondsShown();
  const x = s => LEFT + (s - firstShown()) * inner / seconds;
  const y = value => height / 2 - (value - trace.centre) / perMm * MM;
  grid(pen, x, height);
  axis(pen, trace, perMm, inner, height, y);
  pen.save(); pen.beginPath(); pen.rect(LEFT, 0, inner, height); pen.clip();
  pen.strokeStyle = "#223"; pen.lineWidth = 1; pen.lineJoin = "bevel"; pen.beginPath();
  for (let way = withNeighbours ? -1 : 0; way <= (withNeighbours ? 1 : 0); way++)
    if (trace.epochs[current + way] !== undefined)
      drawColumns(pen, trace, current + way, part => x((way + part) * EPOCH), y);
  pen.stroke(); pen.restore();
}

// Smallest and largest value of an epoch, null where nothing was recorded.
function rangeOf(trace, k) {
  const codes = codesOf(trace, k);
  let low = 255, high = -1;
  for (let j = 0; j < codes.length; j += 2) if (codes[j] <= codes[j + 1]) {
    low = Math.min(low, codes[j]); high = Math.max(high, codes[j + 1]);
  }
  return high < 0 ? null : [low, high].map(code => trace.offset[k] + trace.step[k] * code);
}

function grid(pen, x, height) {
  pen.lineWidth = 1;
  for (let s = firstShown(); s <= firstShown() + secondsShown(); s++)
    line(pen, x(s), 0, x(s), height, s % 5 ? "#f1f1f6" : FAINT);
  if (withNeighbours) for (const s of [0, EPOCH]) line(pen, x(s), 0, x(s), height, SOFT);
}

function axis(pen, trace, perMm, inner, height, y) {
  const step = trace.lines ? 37.5 : Number((8 * perMm).toPrecision(1)), middle = Math.round(trace.centre / step) * step;
  for (const value of [middle - step, middle, middle + step]) {
    if (y(value) < 5 || y(value) > height - 5) continue;
    pen.setLineDash([4, 4]);
    if (value !== middle || middle) line(pen, LEFT, y(value), LEFT + inner, y(value), trace.lines ? "#c0392b88" : "#99a8");
    pen.setLineDash([]);
    write(pen, (value > 0 ? "+" : "") + String(Number(value.toPrecision(3))).replace("-", "−"), LEFT - 6, y(value), "right");
  }
  const name = trace.label.length > 15 ? trace.label.slice(0, 14) + "…" : trace.label;
  write(pen, name, 0, 9, "left", INK);
  write(pen, trace.unit || "no unit", 0, 24);
  write(pen, short(perMm) + "/mm", 0, height - 9);
  // ten mm, to measure by
  const right = LEFT + inner + 10, foot = height / 2 + 5 * MM;
  line(pen, right, foot, right, foot - 10 * MM, INK); line(pen, right - 3, foot, right + 3, foot, INK);
  line(pen, right - 3, foot - 10 * MM, right + 3, foot - 10 * MM, INK);
  write(pen, short(10 * perMm), right + 6, height / 2 - 6, "left", INK);
  write(pen, trace.unit || "", right + 6, height / 2 + 7, "left", INK);
}

// Spindles, slow waves and the like: a row of bars for each kind.
function eventRow(kind, place) {
  const [name, colour] = EVENTS[kind] ?? [kind, INK], from = firstShown(), seconds = secondsShown();
  const start = current * EPOCH + from;
  const own = D.events[kind].filter(([onset, length]) => onset + length > start && onset < start + seconds);
  const { pen, inner, height } = panel(canvasAt($("traces"), TRACES.length + place, own.length + " " + name), 14);
  write(pen, name, 0, height / 2, "left", INK);
  pen.fillStyle = colour;
  for (const [onset, length] of own) {
    const left = Math.max(0, onset - start), right = Math.min(seconds, onset + length - start);
    pen.fillRect(LEFT + left * inner / seconds, 4, Math.max(2, (right - left) * inner / seconds), height - 8);
  }
}

function secondsRow(place) {
  const { pen, inner } = panel(canvasAt($("traces"), place, "seconds, and " + (D.clock === null ? "time passed" : "clock")), 30), seconds = secondsShown();
  for (let s = firstShown(); s <= firstShown() + seconds; s += 5) {
    const at = LEFT + (s - firstShown()) * inner / seconds;
    line(pen, at, 0, at, 4, SOFT);
    write(pen, String(s).replace("-", "−"), at, 10, "center");
    if (s % (withNeighbours ? 15 : 10) === 0) write(pen, clockOf(current * EPOCH + s), at, 23, "center");
  }
  write(pen, "s", 0, 10, "left", INK);
  write(pen, D.clock === null ? "time passed" : "clock", 0, 23, "left", INK);
}

function traces() {
  const kinds = Object.keys(D.events);
  TRACES.forEach(traceRow);
  kinds.forEach(eventRow);
  secondsRow(TRACES.length + kinds.length);
}

// What was done to the traces before they were drawn, in words; the same for every epoch.
function howDrawn() {
  const bands = {};
  for (const trace of TRACES) {
    const how = trace.prepared ? "as the store's nights are prepared" : "as recorded, " + (trace.band ? trace.band.map(short).join("–") + " Hz" : "unfiltered");
    (bands[how] ??= []).push(trace.label);
  }
  const cut = TRACES.filter(trace => trace.cut !== null);
  const filtered = Object.entries(bands).map(([how, labels]) => labels.join(", ") + ": " + how).join("; ");
  $("how").textContent = filtered + "; least and largest sample of each of " +
    Math.max(...TRACES.map(trace => bytes(trace.epochs[0]).length / 2)).toLocaleString("en") + " columns. What is larger than a row is cut off at its edge" +
    (cut.length ? ", and beyond ±" + cut.map(trace => short(trace.cut) + " " + (trace.unit || "") + " (" + trace.label + ")").join(", ±") : "") + "." +
    (TRACES.some(trace => trace.lines) ? " Dashed lines in EEG: ±37.5 µV." : "") +
    (Object.keys(D.events).length ? " Bars below: " + Object.keys(D.events).map(kind => (EVENTS[kind] ?? [kind])[0]).join(", ") + ", " + D.evidence + "." : "");
}
