// Moving through the night, keys, and the start of everything.
const JUMPS = { d: "disagreement", u: "uncertain", f: "flagged", e: "explained" };
const IS = { disagreement: differs, uncertain: k => uncertain[k], flagged: k => D.flags[k], explained: k => D.explained[k] };
const NONE = { disagreement: "Expert and model differ nowhere.", uncertain: "No epoch is uncertain.",
               flagged: "No epoch has a flag of signal quality.", explained: "No epoch is explained." };

function show(k) {
  current = Math.max(0, Math.min(n - 1, k));
  const inner = $("night").clientWidth - LEFT - RIGHT;
  $("cursor").style.left = LEFT + (current + .5) / n * inner + "px";
  const epoch = D.explained[current];
  const text = "epoch " + current + " · " + clockOf(current * EPOCH) + " · in use " + nameOf(stages[current]) +
    ($("expert") ? " · expert " + nameOf(D.expert[current]) : "") + " · model " + nameOf(D.model[current]) +
    (epoch && epoch.why ? " · " + epoch.why : "") + (uncertain[current] ? " · to review" : "") +
    (D.flags[current] ? " · signal quality: " + D.flags[current] : "");
  $("caption").textContent = text;
  $("night").setAttribute("aria-valuenow", current);
  $("night").setAttribute("aria-valuetext", text);
  for (const button of $("stages").children) button.setAttribute("aria-pressed", Number(button.value) === stages[current]);
  bars($("probabilities"), D.order, D.order.map(s => chanceOf(current, D.stages.indexOf(s))), D.order.map(s => D.colours[s]));
  if (D.votes) votes(current);
  traces(); reasonsOf(current);
}

// The next epoch of a kind, or the one before; from the other end of the night where none is left.
function jump(kind, way) {
  for (let step = 1; step <= n; step++) {
    const k = ((current + way * step) % n + n) % n;
    if (!IS[kind](k)) continue;
    const around = way > 0 ? k <= current : k >= current;
    show(k);
    return say("Epoch " + k + (around ? ": no other before the end of the night" : "") + ".");
  }
  say(NONE[kind]);
}

function scale(factor) { gain = Math.max(1 / 16, Math.min(16, gain * factor)); traces(); say("Traces " + short(gain) + " times as large as usual."); }

function neighbours() {
  withNeighbours = !withNeighbours;
  $("context").setAttribute("aria-pressed", withNeighbours); traces();
}

function onKey(event) {
  const typing = event.target.matches("input[type=text], select, textarea");
  if (typing || event.altKey || event.metaKey && event.key !== "z") return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key, way = event.shiftKey ? -1 : 1;
  if (event.ctrlKey || event.metaKey) {
    if (key !== "z" && key !== "y") return;
    if (key === "z" && !event.shiftKey) undo(); else redo();
  } else if (key === "ArrowLeft" || key === "ArrowRight") {
    show(current + (key === "ArrowRight" ? 1 : -1) * (event.shiftKey ? 10 : 1));
  } else if (event.target === $("night") && key in PLACES) show(PLACES[key]());
  else if (!$("keys").checked) return;
  else if (key in KEYS) score(KEYS[key]);
  else if (key in JUMPS) jump(JUMPS[key], way);
  else if (key === "z" || key === "Backspace") undo();
  else if (key === "y") redo();
  else if (key === "c") neighbours();
  else if (key === "+" || key === "=") scale(Math.SQRT2);
  else if (key === "-") scale(Math.SQRT1_2);
  else if (key in PLACES && event.target === document.body) show(PLACES[key]());
  else return;
  event.preventDefault();
}
const PLACES = { Home: () => 0, End: () => n - 1, PageUp: () => current - 10, PageDown: () => current + 10 };

function buttons() {
  for (const stage of [...D.order, "unscored"]) {
    const code = D.stages.indexOf(stage), key = Object.keys(KEYS).find(name => KEYS[name] === code);
    const button = element("button", stage, { value: code, onclick: () => score(code) });
    button.dataset.key = key; button.setAttribute("aria-keyshortcuts", key);
    $("stages").append(button);
  }
  const acts = { back: () => show(current - 1), on: () => show(current + 1), undo, redo, context: neighbours, print: () => window.print(),
    smaller: () => scale(Math.SQRT1_2), larger: () => scale(Math.SQRT2), begin_model: () => beginFrom(D.model, "model"), begin_expert: () => beginFrom(D.expert, "expert") };
  for (const [id, act] of Object.entries(acts)) if ($(id)) $(id).onclick = act;
  for (const button of document.querySelectorAll("[data-jump]")) button.onclick = event => jump(button.dataset.jump, event.shiftKey ? -1 : 1);
  for (const button of document.querySelectorAll("[data-save]")) button.onclick = () => save(button.dataset.save);
  for (const link of document.querySelectorAll("[data-epoch]"))
    link.onclick = () => { show(+link.dataset.epoch); $("caption").scrollIntoView({ block: "start" }); };
}

$("night").setAttribute("aria-valuemax", n - 1);
$("night").addEventListener("click", event => {
  const box = $("night").getBoundingClientRect();
  show(Math.floor((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT) * n));
});
document.addEventListener("keydown", onKey);
window.addEventListener("resize", () => { overview(); show(current); });
// drawn at the paper's width: what is drawn for the screen would be printed in tiny letters
window.addEventListener("beforeprint", () => { document.body.style.width = "688px"; overview(); report(); });
window.addEventListener("afterprint", () => { document.body.style.width = ""; overview(); show(current); });
$("author").addEventListener("change", () => keep(false));
buttons(); howDrawn();
picture.onload = spectrogram;
picture.src = "data:image/png;base64," + D.spectrogram.png;
current = +(Object.keys(D.explained)[0] || 0);
overview(); restore(); report(); show(current);
