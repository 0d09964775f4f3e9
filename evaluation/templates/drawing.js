// Canvases with margins for axes and legends, and the scales that legends show.
const LEFT = 118, RIGHT = 78;  // CSS pixels, the same on every canvas: time lies on one axis
const MM = 96 / 25.4;  // CSS pixels in a mm
const INK = "#222", SOFT = "#556", FAINT = "#dde";
const AGAINST = [59, 76, 192], FOR = [180, 4, 38];

// A canvas at the screen's own resolution: its pen, and the width between its margins.
function panel(canvas, height) {
  const ratio = window.devicePixelRatio || 1, width = canvas.parentElement.clientWidth;
  const pen = canvas.getContext("2d"), size = [width, height].map(side => Math.round(side * ratio));
  if (canvas.width !== size[0] || canvas.height !== size[1]) {  // a new size is slow, clearing is not
    [canvas.width, canvas.height] = size;
    canvas.style.height = height + "px";
  }
  pen.reset(); pen.scale(ratio, ratio);
  pen.font = "11px system-ui, sans-serif"; pen.textBaseline = "middle";
  return { pen, width, height, inner: width - LEFT - RIGHT };
}

// The canvas at a place among a box's, which stays when another epoch is drawn on it.
function canvasAt(box, place, label) {
  const canvas = box.children[place] ?? box.appendChild(document.createElement("canvas"));
  canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", label);
  return canvas;
}

// Takes away canvases that were of an epoch with more of them.
function keepOnly(box, count) { while (box.children.length > count) box.lastChild.remove(); }

function write(pen, text, x, y, align = "left", colour = SOFT) {
  pen.fillStyle = colour; pen.textAlign = align; pen.fillText(text, x, y);
}

function line(pen, x0, y0, x1, y1, colour) {
  pen.strokeStyle = colour; pen.beginPath(); pen.moveTo(x0, y0); pen.lineTo(x1, y1); pen.stroke();
}

// The colour of a value from -1 (evidence against) to 1 (for), from the middle colour on.
// Colour grows with the square root, as every legend has it: else small pieces would not be seen.
function evidence(value, middle) {
  const v = Math.max(-1, Math.min(1, value)), part = Math.sqrt(Math.abs(v)), end = v > 0 ? FOR : AGAINST;
  return "rgb(" + end.map(c => Math.round(middle + (c - middle) * part)).join() + ")";
}

// Colour bar in the right margin; colourAt(0 … 1) from its lower end to its upper one.
function colourBar({ pen, width }, top, height, colourAt, [low, middle, high], unit) {
  const x = width - RIGHT + 8, steps = Math.ceil(height);
  for (let y = 0; y < steps; y++) {
    pen.fillStyle = colourAt(1 - y / Math.max(1, steps - 1)); pen.fillRect(x, top + y, 9, 1.5);
  }
  write(pen, high, x + 13, top + 5);
  if (middle !== "") write(pen, middle, x + 13, top + height / 2);
  write(pen, low, x + 13, top + height - 5);
  if (unit) {
    pen.save(); pen.translate(width - 6, top + height / 2); pen.rotate(-Math.PI / 2);
    pen.font = "10px system-ui, sans-serif"; write(pen, unit, 0, 0, "center"); pen.restore();
  }
}

const short = value => Number(value.toPrecision(2)).toString().replace("-", "−");
