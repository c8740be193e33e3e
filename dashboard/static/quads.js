// Places of slots in a picture: pure.
const round = (value) => Math.round(value * 10) / 10;

/** Return a function from the unit square to a quad, as a camera sees a flat shelf (a homography). */
function onShelf([[x0, y0], [x1, y1], [x2, y2], [x3, y3]]) {
  const [dx1, dx2, sx] = [x1 - x2, x3 - x2, x0 - x1 + x2 - x3];
  const [dy1, dy2, sy] = [y1 - y2, y3 - y2, y0 - y1 + y2 - y3];
  const scale = dx1 * dy2 - dx2 * dy1;
  const [g, h] = [(sx * dy2 - dx2 * sy) / scale, (dx1 * sy - sx * dy1) / scale];
  const [a, b, d, e] = [x1 - x0 + g * x1, x3 - x0 + h * x3, y1 - y0 + g * y1, y3 - y0 + h * y3];
  return (u, v) => {
    const w = g * u + h * v + 1;
    return [round((a * u + b * v + x0) / w), round((d * u + e * v + y0) / w)];
  };
}

/** Divide a quad into rows and columns of equal size on the shelf; `gap` is a share of a slot. */
export function grid(quad, rows, columns, gap = 0) {
  const at = onShelf(quad);
  const cells = [];
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const [l, r] = [(column + gap / 2) / columns, (column + 1 - gap / 2) / columns];
      const [t, b] = [(row + gap / 2) / rows, (row + 1 - gap / 2) / rows];
      cells.push({ row, column, quad: [at(l, t), at(r, t), at(r, b), at(l, b)] });
    }
  }
  return cells;
}

/** Return left, top, right and bottom of quads. */
export function bounds(quads) {
  const [xs, ys] = [quads.flat().map((point) => point[0]), quads.flat().map((point) => point[1])];
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

/** Move quads together, and no farther than the picture's edge. */
export function moved(quads, dx, dy, width, height) {
  const [left, top, right, bottom] = bounds(quads);
  const x = Math.max(-left, Math.min(dx, width - right));
  const y = Math.max(-top, Math.min(dy, height - bottom));
  return quads.map((quad) => quad.map((point) => [round(point[0] + x), round(point[1] + y)]));
}

/** Move one corner, within the picture. */
export function bent(quad, corner, x, y, width, height) {
  const place = [round(Math.max(0, Math.min(x, width))), round(Math.max(0, Math.min(y, height)))];
  return quad.map((point, number) => (number === corner ? place : point));
}

/** Return row and number of an id like A12. */
export function parted(id) {
  const match = /^(.*?)(\d+)$/.exec(id);
  return match ? [match[1], Number(match[2])] : [id, 0];
}

/** Return the first name of a row that is free: A to Z, then AA and so on. */
export function freeRow(ids, after = "") {
  const taken = new Set(ids.map((id) => parted(id)[0]));
  const name = (number) => (number < 26 ? "" : name(Math.floor(number / 26) - 1)) + String.fromCharCode(65 + (number % 26));
  const names = Array.from({ length: 702 }, (_, number) => name(number));
  const begin = names.indexOf(after) + 1;
  return [...names.slice(begin), ...names].find((one) => !taken.has(one));
}
