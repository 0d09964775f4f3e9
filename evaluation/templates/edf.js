// The stages in use as bytes of an EDF+ file of annotations alone.
// Kemp & Olivan, European data format 'plus', Clinical Neurophysiology 114, 2003.
const EDF_WORDS = [...D.stages.slice(0, 4), "R"];
const MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const RECORD = 61440;  // bytes: no data record may be longer

// Runs of one stage: [first epoch, epochs, code]; epochs on onsets of their own make none.
function bouts() {
  const runs = [];
  for (let k = 0; k < n; k++) {
    if (k && !D.onsets.length && stages[k] === stages[k - 1]) runs.at(-1)[1]++; else runs.push([k, 1, stages[k]]);
  }
  return runs;
}

function annotations(author, at) {
  const note = ["+0\x14Scored by " + author + ", saved " + at + "\x14\0"];
  return note.concat(bouts().map(([first, length, code]) =>
    "+" + onsetOf(first) + "\x15" + length * EPOCH + "\x14Sleep stage " + (EDF_WORDS[code] ?? "?") + "\x14\0"));
}

// Data records that begin with the time they keep, filled up to one length.
function records(texts) {
  const coder = new TextEncoder(), begin = coder.encode("+0\x14\x14\0"), filled = [[begin]];
  let length = begin.length;
  for (const text of texts.map(one => coder.encode(one))) {
    if (length + text.length > RECORD) { filled.push([begin]); length = begin.length; }
    filled.at(-1).push(text); length += text.length;
  }
  const sizes = filled.map(parts => parts.reduce((sum, part) => sum + part.length, 0));
  const size = 2 * Math.ceil(Math.max(...sizes) / 2), data = new Uint8Array(size * filled.length);
  filled.forEach((parts, record) => {
    let place = record * size;
    for (const part of parts) { data.set(part, place); place += part.length; }
  });
  return { data, size, count: filled.length };
}

// Fields of a header are ASCII without spaces; an author's other letters stand in the annotation.
const field = text => text.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").replace(/[^\x21-\x7e]+/g, "_").replace(/^_+|_+$/g, "").slice(0, 24) || "X";

function edfBytes(author, at) {
  const { data, size, count } = records(annotations(author, at));
  const [year, month, day] = (D.start ?? "").slice(0, 10).split("-").map(Number);
  const dated = year >= 1985 && year <= 2084;
  const date = dated ? two(day) + "." + two(month) + "." + two(year % 100) : "01.01.85";
  const time = D.start === null ? "00.00.00" : D.start.slice(11, 19).replaceAll(":", ".");
  const startdate = dated ? two(day) + "-" + MONTHS[month - 1] + "-" + year : "X";
  const header = [
    ["0", 8], ["X X X X", 80], ["Startdate " + startdate + " X " + field(author) + " X", 80], [date, 8], [time, 8],
    ["512", 8], ["EDF+C", 44], [count, 8], ["0", 8], ["1", 4],
    ["EDF Annotations", 16], ["", 80], ["", 8], ["-1", 8], ["1", 8], ["-32768", 8], ["32767", 8], ["", 80], [size / 2, 8], ["", 32],
  ].map(([text, width]) => String(text).padEnd(width)).join("");
  const file = new Uint8Array(512 + data.length);
  file.set(new TextEncoder().encode(header)); file.set(data, 512);
  return file;
}
