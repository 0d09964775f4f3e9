// A scorer's changes: stages in use, undo and redo, kept in the browser until they are saved.
const given = Int8Array.from(scoredByExpert ? D.expert : D.model);
let stages = given.slice();
const before = [], after = [];  // changes that can be undone, and done again
const LETTERS = "W123R";  // of the stages' codes; anything else is unscored
const KEYS = { w: 0, 1: 1, 2: 2, 3: 3, r: 4, x: -1 };

// Gives epochs their stages; one call is one step of undo.
function change(epochs, codes) {
  const changed = epochs.map((k, i) => [k, stages[k], codes[i]]).filter(([, was, is]) => was !== is);
  if (!changed.length) return false;
  before.push(changed); after.length = 0;
  apply(changed, 2);
  return true;
}

function apply(changed, which) {
  for (const one of changed) stages[one[0]] = one[which];
  keep(false); yours(); report();
}

function undo() {
  const changed = before.pop();
  if (!changed) return say("Nothing to undo.");
  after.push(changed); apply(changed, 1); show(changed[0][0]);
  say("Undone: " + inWords(changed, 1) + ".");
}

function redo() {
  const changed = after.pop();
  if (!changed) return say("Nothing to do again.");
  before.push(changed); apply(changed, 2); show(changed[0][0]);
  say("Done again: " + inWords(changed, 2) + ".");
}

const inWords = (changed, which) => changed.length > 1 ? changed.length + " epochs" : "epoch " + changed[0][0] + " is " + nameOf(changed[0][which]);

function score(code) {
  const k = current, was = stages[k], changed = change([k], [code]);
  if (k < n - 1) show(k + 1); else show(k);
  say("Epoch " + k + ": " + nameOf(code) + (changed ? ", was " + nameOf(was) : ", as it was") + ".");
}

function beginFrom(codes, whose) {
  const all = Array.from({ length: n }, (_, k) => k);
  if (!change(all, Array.from(codes))) return say("All stages are the " + whose + "'s already.");
  show(current); say("All stages are the " + whose + "'s again; undo brings yours back.");
}

// Browsers may keep nothing for files, or be full: then the scorer has to know.
function stored(act) {
  try { return act(window.localStorage); }
  catch { say("This browser keeps nothing: save before you close the page."); return null; }
}

function keep(saved) {
  const word = Array.from(stages, code => LETTERS[code] ?? "?").join("");
  stored(store => store.setItem(D.key, JSON.stringify({ word, saved, author: $("author").value, at: new Date().toISOString() })));
}

function restore() {
  const text = stored(store => store.getItem(D.key));
  const author = stored(store => store.getItem("scoring author"));
  if (author) $("author").value = author;
  if (!text) return;
  let kept;
  try { kept = JSON.parse(text); } catch { return; }
  if (typeof kept.word !== "string" || kept.word.length !== n) return;
  const codes = Array.from(kept.word, letter => LETTERS.indexOf(letter));
  const count = codes.filter((code, k) => code !== given[k]).length;
  if (!count) return;
  change(codes.map((_, k) => k), codes);
  if (kept.saved) keep(true);
  say(count + " changes of " + String(kept.at).slice(0, 16).replace("T", " ") + " UTC are here again, " + (kept.saved ? "saved then" : "not saved yet") + "; undo takes them back.");
}

const say = text => { $("said").textContent = text; };
