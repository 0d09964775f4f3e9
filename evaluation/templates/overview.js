// The whole night on one time axis: hypnograms, probabilities, rows of marks, spectrogram.
const timeAt = (k, inner) => LEFT + k * inner / n;

function hypnogram(id, codes, title) {
  const shown = panel($(id), 62), { pen, inner } = shown, step = 11;
  const x = k => timeAt(k, inner), y = code => 4 + step * (level[code] + .5);
  write(pen, title, 0, 8, "left", INK);
  D.order.forEach((name, row) => {
    write(pen, name, LEFT - 6, 4 + step * (row + .5), "right");
    line(pen, LEFT, 4 + step * (row + .5), LEFT + inner, 4 + step * (row + .5), "#eee");
  });
  pen.strokeStyle = "#999"; pen.beginPath();
  for (let k = 1; k < n; k++) if (codes[k] >= 0 && codes[k - 1] >= 0 && codes[k] !== codes[k - 1]) {
    pen.moveTo(x(k), y(codes[k - 1])); pen.lineTo(x(k), y(codes[k]));
  }
  pen.stroke();
  for (let k = 0; k < n; k++) {
    pen.fillStyle = codes[k] < 0 ? D.colours.unscored : D.colours[D.stages[codes[k]]];
    if (codes[k] < 0) pen.fillRect(x(k), 4, inner / n + .5, 5 * step);
    else pen.fillRect(x(k), y(codes[k]) - 2, inner / n + .5, 4);
  }
  $(id).setAttribute("aria-label", title + " hypnogram");
  return shown;
}

function yours() {
  const { pen, inner } = hypnogram("yours", stages, "in use");
  pen.fillStyle = INK;  // what was changed is underlined
  for (let k = 0; k < n; k++) if (stages[k] !== given[k]) pen.fillRect(timeAt(k, inner), 59, Math.max(1.5, inner / n), 3);
  write(pen, "▁ changed", LEFT + inner + 8, 56, "left", INK);
}

function density() {
  const { pen, inner, height } = panel($("density"), 52), tall = height - 4;
  write(pen, "probability", 0, 8, "left", INK);
  for (const [part, text] of [[0, "1"], [.5, "0.5"], [1, "0"]]) write(pen, text, LEFT - 6, Math.min(height - 6, 6 + part * (tall - 4)), "right");
  for (let k = 0; k < n; k++) {
    let base = height - 2;
    for (const stage of [...D.order].reverse()) {
      const part = chanceOf(k, D.stages.indexOf(stage)) * tall;
      pen.fillStyle = D.colours[stage];
      pen.fillRect(timeAt(k, inner), base - part, inner / n + .5, part + .5);
      base -= part;
    }
  }
}

// A row that marks some epochs; the number of them stands at its end.
function marks(id, title, isMarked, colour) {
  if (!$(id)) return;
  const { pen, inner, height } = panel($(id), 15);
  write(pen, title, 0, height / 2, "left", INK);
  pen.fillStyle = "#f3f3f7"; pen.fillRect(LEFT, 2, inner, height - 4);
  pen.fillStyle = colour;
  let count = 0;
  for (let k = 0; k < n; k++) if (isMarked(k)) {
    count++; pen.fillRect(timeAt(k, inner), 2, Math.max(1.5, inner / n), height - 4);
  }
  write(pen, count + " of " + n, LEFT + inner + 8, height / 2);
}

function spread() {
  const shown = panel($("spread"), 34), { pen, inner, height } = shown, apart = bytes(D.votes.spread);
  write(pen, "spread of", 0, 8, "left", INK); write(pen, D.votes.names.length + " votes", 0, 20, "left", INK);
  write(pen, "1", LEFT - 6, 6, "right"); write(pen, "0", LEFT - 6, height - 6, "right");
  pen.fillStyle = "#7a5ca8";
  for (let k = 0; k < n; k++) {
    const part = apart[k] / 255 * (height - 2);
    pen.fillRect(timeAt(k, inner), height - part, inner / n + .5, part);
  }
}

const picture = new Image();
function spectrogram() {
  const S = D.spectrogram, shown = panel($("spectrogram"), 84), { pen, inner, height } = shown, tall = height - 6;
  write(pen, S.channel.length > 13 ? S.channel.slice(0, 12) + "…" : S.channel, 0, height / 2 - 8, "left", INK);
  pen.imageSmoothingEnabled = false;
  if (picture.complete && picture.naturalWidth) pen.drawImage(picture, LEFT, 2, inner, tall);
  for (const share of [0, 1 / 3, 2 / 3, 1])
    write(pen, Math.round(S.highest * share) + (share === 1 ? " Hz" : ""), LEFT - 6, 2 + Math.max(5, Math.min(tall - 5, tall * (1 - share))), "right");
  const ends = S.decibel.map(value => String(Math.round(value)).replace("-", "−"));
  colourBar(shown, 3, tall - 2, part => S.colours[Math.round(part * (S.colours.length - 1))], [ends[0], "", ends[1]], "dB, " + S.unit);
}

function hours() {
  const { pen, inner } = panel($("hours"), 18);
  // as many ticks as have room for their labels, on paper as on the screen
  const every = [10, 20, 60, 120, 240, 480].find(step => step * inner / n >= 48) ?? 960;
  // ticks at whole hours of the clock, where that is known
  const first = D.clock === null ? 0 : (every - (D.clock / EPOCH) % every) % every;
  for (let k = first; k < n; k += every) {
    line(pen, timeAt(k, inner), 0, timeAt(k, inner), 4, SOFT);
    write(pen, clockOf(k * EPOCH).slice(0, 5), timeAt(k, inner) + 2, 11);
  }
  write(pen, D.clock === null ? "h:min passed" : "clock", 0, 11, "left", INK);
}

function overview() {
  yours();
  if ($("expert")) hypnogram("expert", D.expert, "expert");
  hypnogram("model", D.model, "model");
  marks("differ", "they differ", differs, "#111");
  density();
  marks("review", "least certain", k => uncertain[k], "#c46a00");
  if (D.votes) spread();
  marks("quality", "signal quality", k => D.flags[k], "#a01050");
  marks("explained", "explained", k => D.explained[k], "#1b3f7a");
  spectrogram(); hours();
}
