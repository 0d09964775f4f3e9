// The night's data, and what every other part reads of it.
"use strict";
const $ = id => document.getElementById(id);
const D = JSON.parse($("data").textContent);
const TRACES = JSON.parse($("trace_data").textContent);
const EPOCH = 30;  // s

function bytes(text) {
  const plain = atob(text), values = new Uint8Array(plain.length);
  for (let k = 0; k < plain.length; k++) values[k] = plain.charCodeAt(k);
  return values;
}
const signed = text => new Int8Array(bytes(text).buffer);
const floats = text => new Float32Array(bytes(text).buffer);

const n = D.model.length;
const chances = bytes(D.probabilities), uncertain = bytes(D.review);
const scoredByExpert = D.expert.some(code => code >= 0);
const level = D.stages.map(stage => D.order.indexOf(stage));
for (const trace of TRACES) { trace.offset = floats(trace.offset); trace.step = floats(trace.step); }

let current = 0;  // number of the epoch that is shown, from 0 as in all files

const nameOf = code => code < 0 ? "unscored" : D.stages[code];
const chanceOf = (k, code) => chances[5 * k + code] / 255;
const differs = k => D.expert[k] >= 0 && D.model[k] >= 0 && D.expert[k] !== D.model[k];
const two = value => String(Math.floor(value)).padStart(2, "0");

// Seconds since the page's first epoch as the recording's clock, or as time that has passed.
function clockOf(seconds) {
  const known = D.clock !== null, at = known ? D.clock + seconds : seconds;
  const day = ((Math.round(at) % 86400) + 86400) % 86400;
  if (known) return two(day / 3600) + ":" + two(day / 60 % 60) + ":" + two(day % 60);
  return (at < 0 ? "−" : "") + [Math.abs(at) / 3600, Math.abs(at) / 60 % 60, Math.abs(at) % 60].map(two).join(":");
}

function element(name, text, more = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  return Object.assign(made, more);
}
