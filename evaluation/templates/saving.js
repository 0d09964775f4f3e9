// Files of the stages in use, with their author and the time: csv, EDF+, BIDS events.
const onsetOf = k => D.onsets.length ? D.onsets[k] : (D.first_epoch + k) * EPOCH;
const spelt = code => code < 0 ? "?" : D.stages[code];

// A cell that no spreadsheet computes and no separator cuts.
function cell(text, separator) {
  const bare = String(text).replace(/[\t\r\n]+/g, " "), safe = /^[=+\-@]/.test(bare) ? "'" + bare : bare;
  return separator === "," && /[",]/.test(safe) ? '"' + safe.replaceAll('"', '""') + '"' : safe;
}

function tableOf(columns, separator) {
  const rows = Array.from({ length: n }, (_, k) => columns.map(([, value]) => cell(value(k), separator)));
  return [columns.map(([name]) => name), ...rows].map(row => row.join(separator)).join("\n") + "\n";
}

function csvText(author, at) {
  return tableOf([["epoch", k => k], ["onset_s", onsetOf], ["duration_s", () => EPOCH], ["stage", k => spelt(stages[k])],
    ["changed", k => Number(stages[k] !== given[k])], ["scorer", () => author], ["saved_at", () => at]], ",");
}

function tsvText(author, at) {
  return tableOf([["onset", onsetOf], ["duration", () => EPOCH], ["trial_type", k => spelt(stages[k])],
    ["changed", k => Number(stages[k] !== given[k])], ["scorer", () => author], ["saved_at", () => at]], "\t");
}

function sidecarText(author, at) {
  const whose = scoredByExpert ? "the expert's" : "the model's";
  return JSON.stringify({
    onset: { Description: "start of the epoch from the first second of the source recording", Units: "s" },
    duration: { Description: "length of the epoch", Units: "s" },
    trial_type: { Description: "stage that the scorer gives the epoch",
      Levels: { W: "wake", N1: "NREM 1", N2: "NREM 2", N3: "NREM 3", REM: "REM sleep", "?": "unscored" } },
    changed: { Description: "whether the scorer changed " + whose + " stage", Levels: { 0: "no", 1: "yes" } },
    scorer: { Description: "who scored" },
    saved_at: { Description: "when the file was saved, UTC" },
    Scorer: author, SavedAt: at,
  }, null, 2) + "\n";
}

// What each button saves: the file's ending, its type, and its content.
const FORMATS = {
  csv: ["_hypnogram.csv", "text/csv", csvText],
  edf: ["_hypnogram.edf", "application/octet-stream", edfBytes],
  tsv: ["_events.tsv", "text/tab-separated-values", tsvText],
  json: ["_events.json", "application/json", sidecarText],
};

function save(format) {
  const author = $("author").value.trim();
  if (!author) { $("author").focus(); return say("Who scored? The name stands in the file."); }
  const [ending, type, content] = FORMATS[format], at = new Date().toISOString().slice(0, 19) + "Z";
  const link = element("a", "", { download: D.recording + ending, href: URL.createObjectURL(new Blob([content(author, at)], { type })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  keep(true);
  stored(store => store.setItem("scoring author", author));
  say("Saved as " + link.download + ".");
  report();
}
