// Why the model gave an epoch its stage: maps on what it read, features, prototypes, edits.
let method = null;

function reasonsOf(k) {
  for (const id of ["methods", "shares", "reasons", "prototypes"]) $(id).replaceChildren();
  for (const id of ["note", "counterfactual", "comparison"]) $(id).textContent = "";
  const epoch = D.explained[k];
  if (!epoch) {
    keepOnly($("maps"), 0);
    $("note").textContent = "Not explained in this run; the row “explained” marks the epochs that are.";
    return;
  }
  const names = Object.keys(epoch.maps);
  if (!names.includes(method)) method = names[0] ?? null;
  for (const name of names) {
    const button = element("button", name, { onclick: () => { method = name; reasonsOf(current); } });
    button.setAttribute("aria-pressed", name === method);
    $("methods").append(button);
  }
  let place = 0;
  D.channels.forEach((_, channel) => {
    mapOnTrace(epoch, channel, place++);
    if (epoch.cells[method]) mapByHertz(epoch.cells[method], channel, place++);
  });
  secondsOfMaps(place); keepOnly($("maps"), place + 1);
  epoch.reasons.forEach(byFeatures);
  for (const [number, distance] of epoch.prototypes) prototype(number, distance);
  if (epoch.counterfactual)
    $("counterfactual").textContent = "What would change it: " + epoch.counterfactual.sentence + " " + epoch.counterfactual.support;
  if (!method) return;
  bars($("shares"), D.channels, epoch.shares[method], D.channels.map(() => "#9db4c8"));
  $("note").textContent = legendOf(epoch);
  $("comparison").textContent = epoch.comparison[method];
  $("comparison").classList.toggle("flagged", epoch.incomplete.includes(method));
}

function legendOf(epoch) {
  const unsigned = D.unsigned.includes(method), piece = short(D.piece_s[method]);
  return (unsigned ? "Red: where the layers attend, whatever that is evidence for. " : "Explained: " + epoch.explained +
    ". Red is evidence for it, blue against it, in units of F for every " + piece + " s" + (epoch.cells[method] ? ", and every Hz and frame below" : "") + ". ") +
    "Traces: what the model received. Colour grows with the square root of the size and is strongest from the ends of the bar on: the " +
    D.limit + "th percentile of all explained epochs, so that one scale holds for the whole page.";
}

// What the model read of an epoch, in the colours of the map; grey where reasons have no map on it.
function mapOnTrace(epoch, channel, place) {
  const canvas = canvasAt($("maps"), place, D.channels[channel] + " as the model received it" + (method ? ", coloured by " + method : ""));
  const shown = panel(canvas, 96), { pen, inner, height } = shown;
  const signal = signed(epoch.signals[channel]), map = method ? signed(epoch.maps[method][channel]) : null;
  const top = D.input_scale[channel], size = epoch.scale[channel] / 127 / top;
  const x = k => LEFT + k * inner / (signal.length - 1), y = k => height / 2 - Math.max(-1, Math.min(1, signal[k] * size)) * (height / 2 - 3);
  for (let s = 0; s <= EPOCH; s += 5) line(pen, LEFT + s * inner / EPOCH, 0, LEFT + s * inner / EPOCH, height, FAINT);
  write(pen, D.channels[channel].slice(0, 15), 0, 9, "left", INK);
  write(pen, D.unit, 0, 24);
  write(pen, "+" + short(top), LEFT - 6, 7, "right"); write(pen, "0", LEFT - 6, height / 2, "right"); write(pen, "−" + short(top), LEFT - 6, height - 7, "right");
  pen.lineWidth = 1.3; pen.lineJoin = "bevel";
  const colour = k => map === null ? "#445" : evidence(map[Math.floor(k * map.length / signal.length)] / 127, 150);
  for (let k = 1; k < signal.length;) {  // one stroke for a run of one colour
    const own = colour(k);
    pen.strokeStyle = own; pen.beginPath(); pen.moveTo(x(k - 1), y(k - 1));
    for (; k < signal.length && colour(k) === own; k++) pen.lineTo(x(k), y(k));
    pen.stroke();
  }
  if (map !== null) evidenceBar(shown, D.map_scale[method], 150);
}

function evidenceBar(shown, limit, middle) {
  const unsigned = D.unsigned.includes(method), low = unsigned ? 0 : -1;
  colourBar(shown, 4, shown.height - 8, part => evidence(low + part * (1 - low), middle),
    [unsigned ? "0" : "−" + short(limit), unsigned ? "" : "0", (unsigned ? "" : "+") + short(limit)], unsigned ? "attention" : "evidence");
}

function mapByHertz(all, channel, place) {
  const canvas = canvasAt($("maps"), place, "map by frequency of " + D.channels[channel]);
  const map = signed(all.maps[channel]), rows = D.mapped, frames = map.length / rows;
  const shown = panel(canvas, 104), { pen, inner, height } = shown, tall = height - 4;
  for (let h = 0; h < rows; h++) for (let f = 0; f < frames; f++) {
    pen.fillStyle = evidence(map[h * frames + f] / 127, 255);  // white in the middle: no trace lies under it
    const left = Math.max(0, all.first + (f - .5) * all.hop), right = Math.min(EPOCH, all.first + (f + .5) * all.hop);
    pen.fillRect(LEFT + left * inner / EPOCH, 2 + tall * (1 - (h + 1) / rows), (right - left) * inner / EPOCH + .5, tall / rows + .5);
  }
  for (let hertz = 0; hertz <= rows; hertz += 10)
    write(pen, hertz + (hertz === rows ? " Hz" : ""), LEFT - 6, 2 + Math.max(5, Math.min(tall - 5, tall * (1 - hertz / rows))), "right");
  evidenceBar(shown, D.cell_scale[method], 255);
}

function secondsOfMaps(place) {
  const { pen, inner } = panel(canvasAt($("maps"), place, "seconds"), 16);
  for (let s = 0; s <= EPOCH; s += 5) write(pen, String(s), LEFT + s * inner / EPOCH, 8, "center");
  write(pen, "s", 0, 8, "left", INK);
}

function byFeatures(R) {
  const table = element("table", undefined, { className: "reasons" }), head = element("tr"), most = D.bar_scale[R.title];
  const parts = R.spans.length > 1 ? R.spans : [];
  for (const word of ["evidence", "−" + short(most) + " (blue, against) … 0 … +" + short(most) + " (red, for)", "all", ...parts]) head.append(element("th", word));
  table.append(head);
  R.groups.forEach((group, g) => {
    const sum = R.contributions[g].reduce((a, b) => a + b, 0), half = 50 * Math.abs(sum) / most;
    const row = element("tr"), grows = element("td", "", { className: "grows" }), bar = element("i");
    bar.style.left = (sum < 0 ? 50 - half : 50) + "%"; bar.style.width = half + "%";
    bar.style.background = "rgb(" + (sum < 0 ? AGAINST : FOR) + ")";
    grows.append(bar);
    row.append(element("td", group), grows);
    for (const value of [sum, ...(parts.length ? R.contributions[g] : [])]) row.append(element("td", (value > 0 ? "+" : "") + value.toFixed(2)));
    table.append(row);
  });
  const counted = "Features that count most (value, evidence): " +
    R.features.map(([name, value, size]) => name + (value === null ? "" : " " + value) + ", " + (size > 0 ? "+" : "") + size.toFixed(2)).join(" · ");
  const compared = element("p", R.comparison);
  compared.classList.toggle("flagged", R.incomplete);
  $("reasons").append(element("h3", R.title), table, element("p", R.note + " Bars of all epochs of this page have one scale."), compared, element("p", counted));
}

function prototype(number, distance) {
  const P = D.prototypes[number];
  $("prototypes").append(element("h3", "Near in the model's view, a training epoch that its expert calls " + P.stage + " (" + P.origin + ", distance " + distance.toFixed(2) + ")"));
  P.traces.forEach((text, channel) => {
    const canvas = element("canvas"), signal = signed(text), top = D.input_scale[channel] ?? 1;
    canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", "trace of " + P.origin);
    $("prototypes").append(canvas);
    const { pen, inner, height } = panel(canvas, 70), size = P.scale[channel] / top / 127;
    write(pen, "±" + short(top), LEFT - 6, 8, "right"); write(pen, "as above", 0, 8);
    pen.strokeStyle = D.colours[P.stage]; pen.beginPath();
    signal.forEach((value, k) => pen.lineTo(LEFT + k * inner / (signal.length - 1), (1 - Math.max(-1, Math.min(1, value * size))) * height / 2));
    pen.stroke();
  });
}

function bars(target, names, values, colours) {
  target.replaceChildren(...names.map((name, k) => {
    const item = element("span", name + " " + values[k].toFixed(2)), bar = element("i");
    bar.style.width = 80 * values[k] + "px"; bar.style.background = colours[k];
    item.append(bar); return item;
  }));
}

function votes(k) {
  const own = bytes(D.votes.stages), byStage = {};
  D.votes.names.forEach((name, v) => (byStage[D.stages[own[v * n + k]]] ??= []).push(name));
  $("votes").textContent = "Votes: " + Object.entries(byStage).sort((a, b) => b[1].length - a[1].length)
    .map(([stage, names]) => names.length + " × " + stage + " (" + names.join("; ") + ")").join(" · ") +
    ". Spread " + (bytes(D.votes.spread)[k] / 255).toFixed(2) +
    ". Decided by " + D.votes.names[bytes(D.votes.decided)[k]] + ".";
}
