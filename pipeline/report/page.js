'use strict';

const byId = (id) => document.getElementById(id);
const percent = (part, whole) => (whole ? `${(100 * part / whole).toFixed(2)}%` : '–');

/* The panel: one mask at a threshold that can be moved. */
const { colours, bothEmpty, masks } = JSON.parse(byId('data').textContent);
const BLUE = [53, 224, 255, 225], PINK = [255, 61, 127, 225], WHITE = [255, 255, 255, 110];

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/* bothEmpty is the Dice where nothing is and nothing is predicted; null: such a mask is left out. */
function diceAt(mask, threshold, empty = bothEmpty) {
  const total = mask.predicted[threshold] + mask.true;
  return total ? 2 * mask.intersection[threshold] / total : empty;
}

function bestThreshold(mask) {
  const empty = bothEmpty ?? 1;
  let best = mask.threshold;
  for (let threshold = 0; threshold < 256; threshold++) {
    if (diceAt(mask, threshold, empty) > diceAt(mask, best, empty)) best = threshold;
  }
  return best;
}

function colourOf(view, probability, threshold, isTrue) {
  if (view === 'photo') return [0, 0, 0, 0];
  if (view === 'probability') return [...colours[probability], 255];
  const predicted = probability >= threshold;
  if (predicted) return isTrue ? WHITE : PINK;
  return isTrue ? BLUE : [0, 0, 0, 0];
}

function drawOverlay(mask, threshold, view) {
  const canvas = byId('overlay');
  canvas.width = mask.width;
  canvas.height = mask.height;
  const picture = new ImageData(mask.width, mask.height);
  for (let pixel = 0; pixel < mask.probability.length; pixel++) {
    const isTrue = mask.truth[pixel >> 3] >> (7 - pixel % 8) & 1;
    picture.data.set(colourOf(view, mask.probability[pixel], threshold, isTrue), 4 * pixel);
  }
  canvas.getContext('2d').putImageData(picture, 0, 0);
}

const current = () => masks[byId('pick').selectedIndex];

function update() {
  const mask = current(), threshold = byId('threshold').valueAsNumber;
  const inside = mask.intersection[threshold], predicted = mask.predicted[threshold];
  drawOverlay(mask, threshold, document.querySelector('input[name=view]:checked').value);
  byId('value').textContent = `${threshold}/255`;
  byId('dice').textContent = diceAt(mask, threshold)?.toFixed(4) ?? '–';
  byId('missed').textContent = percent(mask.true - inside, mask.true);
  byId('extra').textContent = percent(predicted - inside, predicted);
  const marker = byId('curve').querySelector('line');
  marker.setAttribute('x1', threshold);
  marker.setAttribute('x2', threshold);
}

function setThreshold(threshold) {
  byId('threshold').value = threshold;
  update();
}

function show(place) {
  byId('pick').selectedIndex = place;
  const mask = current();
  if (typeof mask.probability === 'string') {
    mask.probability = bytes(mask.probability);
    mask.truth = bytes(mask.truth);
  }
  byId('photo').src = mask.photo;
  byId('submitted').textContent = mask.dice;
  byId('rules').textContent = `As submitted: ${mask.rules}.`;
  const scored = [...Array(256).keys()].filter((threshold) => diceAt(mask, threshold) !== null);
  const points = scored.map((threshold) => `${threshold},${(58 - 56 * diceAt(mask, threshold)).toFixed(1)}`);
  byId('curve').querySelector('polyline').setAttribute('points', points.join(' '));
  setThreshold(mask.threshold);
}

function startPanel() {
  for (const mask of masks) byId('pick').add(new Option(`${mask.label}: ${mask.dice}`));
  const step = (by) => show((byId('pick').selectedIndex + by + masks.length) % masks.length);
  byId('pick').addEventListener('change', () => show(byId('pick').selectedIndex));
  byId('previous').addEventListener('click', () => step(-1));
  byId('next').addEventListener('click', () => step(1));
  byId('threshold').addEventListener('input', update);
  byId('chosen').addEventListener('click', () => setThreshold(current().threshold));
  byId('half').addEventListener('click', () => setThreshold(128));
  byId('best').addEventListener('click', () => setThreshold(bestThreshold(current())));
  for (const radio of document.querySelectorAll('input[name=view]')) radio.addEventListener('change', update);
  for (const button of document.querySelectorAll('[data-panel]')) {
    button.addEventListener('click', () => {
      show(Number(button.dataset.panel));
      byId('panel').scrollIntoView();
      byId('threshold').focus({ preventScroll: true });
    });
  }
  show(0);
}

/* The table: headings sort, the field leaves rows out. */
const valueOf = (row, column) => row.cells[column].textContent;

function compareRows(first, second, column, direction) {
  const [a, b] = [valueOf(first, column), valueOf(second, column)];
  const [x, y] = [parseFloat(a), parseFloat(b)];
  if (column === 0) return direction * a.localeCompare(b, undefined, { numeric: true });
  if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
  return direction * (x - y);
}

function sortBy(heading) {
  const column = heading.cellIndex, body = byId('table').tBodies[0];
  const order = heading.getAttribute('aria-sort') === 'ascending' ? 'descending' : 'ascending';
  for (const other of heading.parentNode.cells) other.removeAttribute('aria-sort');
  heading.setAttribute('aria-sort', order);
  const direction = order === 'ascending' ? 1 : -1;
  body.append(...[...body.rows].sort((first, second) => compareRows(first, second, column, direction)));
}

function filterRows() {
  const wanted = byId('filter').value.toLowerCase();
  let count = 0;
  for (const row of byId('table').tBodies[0].rows) {
    row.hidden = !valueOf(row, 0).toLowerCase().includes(wanted);
    count += !row.hidden;
  }
  byId('count').textContent = wanted ? `${count} masks` : '';
}

function startTable() {
  for (const button of document.querySelectorAll('#table thead button')) {
    button.addEventListener('click', () => sortBy(button.closest('th')));
  }
  byId('filter').addEventListener('input', filterRows);
}

startPanel();
startTable();
