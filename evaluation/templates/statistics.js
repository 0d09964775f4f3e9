// Sleep statistics of the stages in use, defined as in all other outputs, and the printed head.
const minutes = epochs => epochs * D.spacing / 60;

function statistics(codes) {
  const scored = Array.from(codes.keys()).filter(k => codes[k] >= 0), values = {};
  for (const name of Object.keys(D.definitions)) values[name] = NaN;
  if (!scored.length) return values;
  const night = codes.slice(scored[0], scored.at(-1) + 1), asleep = Array.from(night, code => code > 0);
  D.stages.forEach((stage, code) => { values[stage] = minutes(night.filter(c => c === code).length); });
  values.TIB = minutes(night.length); values.TST = minutes(asleep.filter(Boolean).length);
  values.SE = 100 * values.TST / values.TIB;
  if (!values.TST) return values;
  const onset = asleep.indexOf(true), awakening = asleep.lastIndexOf(true) + 1;
  const wake = (from, to) => minutes(night.slice(from, to).filter(code => code === 0).length);
  const rem = length => {
    for (let k = 0, run = 0; k < night.length; k++) {
      run = night[k] === 4 ? run + 1 : 0;
      if (run === length) return k - length + 1;
    }
    return NaN;
  };
  const known = codes.filter(code => code >= 0);
  let awakenings = 0;
  for (let k = 1; k < known.length; k++) awakenings += known[k - 1] !== 0 && known[k] === 0;
  return Object.assign(values, {
    SOL: minutes(onset), WASO: wake(onset), WASO_SPT: wake(onset, awakening), REM_latency: minutes(rem(1) - onset),
    REM_latency_3min: minutes(rem(Math.ceil(180 / D.spacing - 1e-9)) - onset), SFI: awakenings / (values.TST / 60),
  });
}

function report() {
  const columns = [["in use", stages], ["model", Int8Array.from(D.model)]];
  if (scoredByExpert) columns.splice(1, 0, ["expert", Int8Array.from(D.expert)]);
  const known = columns.map(([, codes]) => statistics(codes)), table = $("statistics"), head = element("tr");
  head.append(...["measure", ...columns.map(([name]) => name), "unit", "definition"].map(word => element("th", word)));
  table.replaceChildren(head);
  for (const [name, [unit, text]] of Object.entries(D.definitions)) {
    const row = element("tr");
    row.append(element("td", name), ...known.map(values => element("td", Number.isNaN(values[name]) ? "–" : values[name].toFixed(1))),
      element("td", unit), element("td", text, { className: "no_print" }));
    table.append(row);
  }
  head.lastChild.className = "no_print";
  const both = Array.from(stages.keys()).filter(k => stages[k] >= 0 && D.model[k] >= 0);
  const same = both.filter(k => stages[k] === D.model[k]).length, changed = stages.filter((code, k) => code !== given[k]).length;
  $("agreement").textContent = changed + (changed === 1 ? " epoch changed. " : " epochs changed. ") + same + " of " + both.length + " epochs have the model's stage" +
    (both.length ? " (" + (100 * same / both.length).toFixed(1) + " %)." : ".");
  $("signed").textContent = "Scored by " + ($("author").value.trim() || "nobody yet") + ", " + new Date().toISOString().slice(0, 16).replace("T", " ") +
    " UTC; " + n + " epochs" + (D.start ? " from " + D.start.replace("T", " ") : "") + ".";
}
